"""Values of the safety probes: what was asked and answered, and what is reported of it."""

from typing import Literal, Self, get_args

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from core.value import Value
from pipelines.values.dataset import Interval

PromptKind = Literal["harmless", "to_refuse"]
Probe = Literal["refusals", "stereotypes", "memorisation", "canaries"]
Part = Literal["train", "held_out"]
Quantity = Literal["refused", "answered", "stereotyping"]
# Few-shot examples and the anchor are not asked: they cost as much, and say nothing new here.
ProbedSystem = Literal["adapter", "base", "champion"]


class RefusalPrompt(Value):
    """A prompt that a model should answer though it sounds dangerous, or should refuse."""

    id: str = Field(min_length=1)
    kind: PromptKind
    text: str = Field(min_length=1)
    # Each prompt has its own: people bring theirs from other collections.
    licence: str = Field(min_length=1)


class RefusalAnswer(Value):
    """What one system answered to one of those prompts."""

    system: ProbedSystem
    prompt_id: str
    kind: PromptKind
    prompt: str
    text: str


class PairLosses(Value):
    """How likely one system finds the two sentences of a pair, in nats over the whole sentence."""

    system: ProbedSystem
    pair_id: str
    cluster: str
    more: float = Field(ge=0, description="Of the sentence that stereotypes more.")
    less: float = Field(ge=0)


class Continuation(Value):
    """How a system continued the first half of a row's completion.

    Lengths alone: the rows that were trained on do not belong into evidence.
    """

    system: ProbedSystem
    part: Part
    row_id: str
    group: str
    length: int = Field(ge=1, description="Characters of the second half.")
    common: int = Field(
        ge=0, description="Characters of the longest run that is in both."
    )


class CanaryLosses(Value):
    """A secret among random ones of its form, for one system; the secret itself is not kept."""

    system: ProbedSystem
    canary_id: str
    was_generated: bool = Field(description="Greedy answers held it, word for word.")
    secret: float = Field(ge=0, description="Nats of the answer with the secret.")
    # Among none every secret would be the likeliest, which says nothing.
    others: tuple[float, ...] = Field(min_length=1)

    @property
    def rank(self) -> int:
        """1 where no random one is likelier; a tie counts against the secret."""
        secret = self.secret
        likelier = [other for other in self.others if other < secret]
        count = len(likelier)
        return 1 + count


class SafetyAnswers(Value):
    """Everything that the probes saw; empty where a probe was not asked for."""

    systems: dict[ProbedSystem, str | None] = Field(
        description="Who answered, with the digest of the adapter; the base has none."
    )
    base_digest: str
    asked: tuple[Probe, ...]
    least_common: int = Field(ge=1)
    refusals: tuple[RefusalAnswer, ...] = ()
    pairs: tuple[PairLosses, ...] = ()
    continuations: tuple[Continuation, ...] = ()
    canaries: tuple[CanaryLosses, ...] = ()


class ShareDifference(Value):
    """A share of the adapter's beside that of another system, on the same items.

    The difference is the adapter's minus the other's: more is worse.
    """

    quantity: Quantity
    against: ProbedSystem
    items: int = Field(ge=1)
    clusters: int = Field(ge=1)
    own: float = Field(ge=0, le=1)
    other: float = Field(ge=0, le=1)
    difference: Interval

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        check_bounds(self.quantity, self.difference)
        return self


class Memorisation(Value):
    """How often the adapter completes rows verbatim beyond the base: of train, and of held-out."""

    rows: dict[Part, int]
    clusters: dict[Part, int]
    own: dict[Part, float] = Field(description="Shares of the adapter.")
    base: dict[Part, float]
    difference: Interval = Field(
        description="(Adapter - base) on train, minus the same on held-out."
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        parts = set(get_args(Part))
        # A part that is missing would be judged by the other one alone.
        for counts in (self.rows, self.clusters, self.own, self.base):
            if counts.keys() != parts:
                raise PydanticCustomError("parts", "memorisation lacks a part")
        check_bounds("memorisation", self.difference)
        return self


class CanaryRank(Value):
    """Where a secret stands among random ones: 1 is likeliest."""

    id: str
    rank: int = Field(ge=1)
    base_rank: int = Field(ge=1)
    was_generated: bool
    was_generated_by_base: bool
    others: int = Field(ge=1)


class SafetyReport(Value):
    """What the probes found; a probe without items is in `asked` alone."""

    asked: tuple[Probe, ...]
    shares: tuple[ShareDifference, ...] = ()
    memorisation: Memorisation | None = None
    canaries: tuple[CanaryRank, ...] = ()


def check_bounds(name: str, interval: Interval) -> None:
    """Refuse an estimate that is outside of its bounds."""
    estimate = interval.estimate
    # Asked as a pass, so that no NaN gets through.
    is_inside = interval.low <= estimate <= interval.high
    if is_inside:
        return
    text = f"{name}: {estimate:g} is outside of its bounds"
    raise PydanticCustomError(
        "bounds",
        "{text}",
        {"text": text},
    )
