"""How answers were drawn: the temperature, and a recorded seed for each of the k answers."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from core.value import FileDigest, Value

FEWEST = 2
"""Samples a prompt: of one alone nobody can say how much answers vary."""
MOST = 100
DEFAULT = 5
Temperature = Annotated[float, Field(gt=0, le=2)]
Samples = Annotated[int, Field(ge=FEWEST, le=MOST)]


class SampledAs(Value):
    """How each prompt was answered k times."""

    temperature: Temperature
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field(
        min_length=FEWEST, max_length=MOST
    )
    """One for each sample of a prompt, in their order."""

    @property
    def samples(self) -> int:
        """Answers to each prompt: k."""
        return len(self.seeds)

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        # With one seed twice an answer would count twice.
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is there twice")
        return self


class SampledAnswer(Value):
    """One of the k answers to one prompt."""

    prompt_id: str
    sample: int = Field(ge=0, description="Its place among the seeds.")
    text: str
    tokens: int = Field(ge=0)
    ended: bool


class SampledCompletions(Value):
    """The record of a system's sampled answers."""

    drawn: SampledAs
    answers: FileDigest


def seeds_from(seed: int, samples: int) -> tuple[int, ...]:
    """The seeds of k samples: the given one, and those after it."""
    # A record takes seeds of 32 bits: behind the largest one it goes on from 0.
    return tuple((seed + number) % 2**32 for number in range(samples))
