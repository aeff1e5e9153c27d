"""What requests of both kinds hold: how an answer is generated, and what only labels it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from pipelines.engines import GenerationRequest
from pipelines.engines.refusal import Refusal
from serving.openai_schema.fields import (
    MOST_CHOICES,
    Choices,
    FewStops,
    Label,
    NoEntries,
    One,
    Tokens,
    WholeOne,
    WholeZero,
    WireValue,
    Zero,
    optional,
    unserved,
)

# Below it only the likeliest token is ever drawn, and numbers divided by it leave the range of
# float32.
LEAST_TEMPERATURE = 1e-5
_SEEDS = 2**64


class StreamOptions(WireValue):
    """Whether a stream ends with a chunk that counts tokens."""

    include_usage: bool | None = optional("send true or false")
    include_obfuscation: Literal[False] | None = unserved(
        "padding of chunks is not served here", "false"
    )


class GenerationFields(WireValue):
    """The fields that both kinds of requests have."""

    model: Annotated[str, Field(max_length=1000)] = Field(
        description="send the name of a served model, which GET /v1/models lists"
    )
    max_tokens: Tokens | None = optional("send a whole number from 1 to 1000000")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = optional(
        "send a number from 0 to 2"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = optional(
        "send a number over 0 and up to 1"
    )
    stop: FewStops | None = optional(
        "send a text of 1 to 256 characters, or a list of up to 4 of them"
    )
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = optional(
        "send a whole number of 64 bits"
    )
    n: Choices | None = optional(f"send a whole number from 1 to {MOST_CHOICES}")
    stream: bool | None = optional("send true or false")
    stream_options: StreamOptions | None = optional(
        'send an object such as {"include_usage": true}'
    )
    # Taken only with the setting that changes nothing.
    best_of: WholeOne | None = unserved("every answer that is made is given", "1")
    frequency_penalty: Zero | None = unserved("penalties are not served here", "0")
    presence_penalty: Zero | None = unserved("penalties are not served here", "0")
    repetition_penalty: One | None = unserved("penalties are not served here", "1")
    top_k: Literal[-1, 0] | None = unserved(
        "a cut by rank is not served here", "0 or -1"
    )
    min_p: Zero | None = unserved(
        "a cut by probability is not served here except top_p", "0"
    )
    min_tokens: WholeZero | None = unserved("a least length is not served here", "0")
    ignore_eos: Literal[False] | None = unserved(
        "an answer always ends where the model ends it", "false"
    )
    logit_bias: NoEntries | None = unserved(
        "a bias on tokens is not served here", "an empty object"
    )
    # A label: it is taken, and decides only which side of a canary answers.
    user: Label | None = optional("send a text of up to 512 characters")

    @property
    def choice_count(self) -> int:
        """How many answers to each prompt."""
        return self.n or 1

    @property
    def includes_usage(self) -> bool:
        """Whether a stream is to end with a chunk that counts tokens."""
        if self.stream_options is None:
            return False
        return self.stream_options.include_usage is True

    def to_generation(
        self, prompt: Sequence[int], max_tokens: int
    ) -> GenerationRequest:
        """The engine's request. Without a temperature it is greedy, as the scored answers are."""
        temperature = self.temperature or 0.0
        samples = temperature >= LEAST_TEMPERATURE
        return GenerationRequest(
            model=self.model,
            prompt=tuple(prompt),
            max_tokens=max_tokens,
            temperature=temperature if samples else 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            stop=self.stop or (),
            seed=self.seed,
        )

    def repeat(self, request: GenerationRequest) -> tuple[GenerationRequest, ...]:
        """One request for each answer to its prompt; each but the first has a seed of its own."""
        # Not one seed for all: equal seeds would give equal answers.
        requests: list[GenerationRequest] = []
        for number in range(self.choice_count):
            seed = self._seed(number)
            requests.append(replace(request, seed=seed))
        return tuple(requests)

    def _seed(self, number: int) -> int | None:
        if self.seed is None:
            return None
        seed = self.seed + number
        if seed < _SEEDS // 2:
            return seed
        # After the highest seed of 64 bits comes the lowest.
        return seed - _SEEDS


def check_stream_options(request: GenerationFields) -> None:
    """Return only if a request that asks for usage of a stream asks for a stream."""
    if request.includes_usage and not request.stream:
        raise Refusal(
            "stream_options asks for usage, which only a stream leaves out: "
            "send stream: true too.",
            param="stream_options",
        )
