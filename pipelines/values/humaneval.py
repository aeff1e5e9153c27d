"""Values of HumanEval in a run: what passed, and what is reported of it."""

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from core.value import Settable, Value
from pipelines.values.dataset import Interval
from pipelines.values.safety import ProbedSystem, check_bounds

ALL_TASKS = 164
MOST_SAMPLES = 1000


class HumanEvalParams(Settable):
    """How HumanEval's tasks are asked in a run; off without samples."""

    samples: Annotated[int, Field(ge=0, le=MOST_SAMPLES)] = Field(
        default=0, description="Answers to each task; 0: HumanEval is not asked."
    )
    k: tuple[Annotated[int, Field(ge=1, le=MOST_SAMPLES)], ...] = Field(
        default=(1,),
        min_length=1,
        description="The k of pass@k; the policy judges each.",
    )
    temperature: Annotated[float, Field(ge=0, le=10)] = Field(
        default=0.0, description="0: greedy, for one sample; more are drawn."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=512, description="Longest answer."
    )
    tasks: Annotated[int, Field(ge=1, le=ALL_TASKS)] | None = Field(
        default=None, description="So many tasks, for a try that decides nothing."
    )

    @model_validator(mode="after")
    def _check_samples(self) -> Self:
        # Off: what it would ask is not looked at.
        if not self.samples:
            return self
        most = max(self.k)
        if most > self.samples:
            text = f"pass@{most} needs as many samples, there are {self.samples}"
            raise PydanticCustomError("samples", "{text}", {"text": text})
        # The same answer again tells nothing.
        if self.samples > 1 and not self.temperature:
            text = f"{self.samples} greedy answers to a task are one answer"
            raise PydanticCustomError("samples", "{text}", {"text": text})
        return self


class TaskResult(Value):
    """One answer to one task, and how its tests ended."""

    system: ProbedSystem
    task_id: str
    sample: int = Field(ge=0)
    passed: bool
    reason: str
    answer: str


class HumanEvalAnswers(Value):
    """Every answer of every system; none where code could not be run in boxes."""

    systems: dict[ProbedSystem, str | None] = Field(
        description="Who answered, with the digest of the adapter; the base has none."
    )
    base_digest: str
    samples: int = Field(ge=1)
    k: tuple[int, ...] = Field(min_length=1)
    tasks: tuple[str, ...] = Field(description="Names of the tasks that were asked.")
    is_complete: bool
    signature: str
    # No result and no reason would look like a model that solves nothing.
    unavailable: str | None = Field(
        default=None, description="Why no code was run; None: it was."
    )
    results: tuple[TaskResult, ...] = ()


class PassShare(Value):
    """pass@k of one system, 0 to 1, with its interval over tasks."""

    system: ProbedSystem
    k: int = Field(ge=1)
    interval: Interval


class PassDifference(Value):
    """How much better the adapter is than another system at a k, task by task."""

    against: ProbedSystem
    k: int = Field(ge=1)
    difference: Interval

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        check_bounds(f"pass@{self.k}", self.difference)
        return self


class HumanEvalReport(Value):
    """`humaneval_pass_at_k` of every system, and how they compare."""

    tasks: int = Field(ge=0)
    samples: int
    k: tuple[int, ...] = Field(min_length=1)
    is_complete: bool
    signature: str
    unavailable: str | None
    shares: tuple[PassShare, ...] = ()
    differences: tuple[PassDifference, ...] = ()
