"""What a gate answers. Each answer carries every reason, with both numbers."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from core.errors import DamagedFile
from core.value import Value
from pipelines.values.canary import CanaryPlan, Quorum
from pipelines.values.dataset import TrainingSet
from pipelines.values.evidence import Adapter, System
from pipelines.values.serving_spec import ServingSpec

Gate = Literal["admit", "screen", "judge"]
Outcome = Literal["passed", "rejected", "undecided"]
EXIT_CODES: dict[Outcome, int] = {"passed": 0, "rejected": 3, "undecided": 4}
"""What a command ends with; 1 is an error and 2 wrong usage."""

STATISTICS = 2
"""The version of the bounds that `screen` decides by; a verdict by another one is not released.

1 (verdicts name none): percentile bounds, and gaps between groups as the largest minus the least.
2: the wider of percentile and jackknife t bounds, and signed gaps by pair.
"""


class Finding(Value):
    """One rule, what it found and what it wanted, in one sentence."""

    rule: str
    outcome: Outcome
    text: str


# A stored verdict is read as it is. In older ones the estimate may be outside of its bounds, which
# must not stop what serves. `judge` recomputes the bounds and compares them.
_AS_STORED = {"as_stored": True}


class Comparison(Value):
    """Adapter against one system on one metric; positive is better.

    Paired by prompt, clustered by group.
    """

    metric: str
    against: System | Literal["other prompts' references"]
    difference: float
    low: float = Field(description="One-sided lower bound at the policy's level.")
    high: float = Field(description="One-sided upper bound at the policy's level.")
    standard_error: float = Field(ge=0)
    clusters: int = Field(ge=2, description="One cluster has no spread.")

    @model_validator(mode="after")
    def _check_bounds(self, validation: ValidationInfo) -> Self:
        if validation.context == _AS_STORED:
            return self
        # Asked as a pass, so that no NaN gets through.
        if not self.low <= self.difference <= self.high:
            bounds = f"{self.low:g} to {self.high:g}"
            fact = f"{self.difference:g} is outside of its bounds, {bounds}"
            text = f"{self.metric} against {self.against}: {fact}"
            raise PydanticCustomError("bounds", "{text}", {"text": text})
        return self


class Admission(Value):
    """Passed `admit`: these rows may be trained on."""

    verdict: Literal["passed"] = "passed"
    gate: Literal["admit"] = "admit"
    # At least one: a pass without a reason was not computed.
    findings: tuple[Finding, ...] = Field(min_length=1)
    policy_sha256: str
    dataset_digest: str
    training_set: TrainingSet


class Rejection(Value):
    """The gate says no."""

    verdict: Literal["rejected"] = "rejected"
    gate: Gate
    findings: tuple[Finding, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = ()
    policy_sha256: str
    statistics: int | None = Field(
        default=None,
        description="Of `screen`: the version of its bounds; None: from before they had one.",
    )


class Undecided(Value):
    """The evidence does not suffice; the findings say what is missing."""

    verdict: Literal["undecided"] = "undecided"
    gate: Gate
    findings: tuple[Finding, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = ()
    policy_sha256: str
    statistics: int | None = Field(
        default=None,
        description="Of `screen`: the version of its bounds; None: from before they had one.",
    )


class Finalist(Value):
    """Passed `screen`: may be registered. Only `pipelines.stages.screen.screen` makes one."""

    verdict: Literal["passed"] = "passed"
    gate: Literal["screen"] = "screen"
    findings: tuple[Finding, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...] = Field(min_length=1)
    policy_sha256: str
    statistics: int | None = Field(
        default=None,
        description="Of `screen`: the version of its bounds; None: from before they had one.",
    )
    # The scorecard itself is registered beside it; the digest ties the two together.
    scorecard_digest: str
    adapter: Adapter
    spec: ServingSpec = Field(
        description="The configuration that was scored; another one needs its own screen."
    )


class Candidate(Value):
    """Passed `judge`: may be released. Only `registry.release.judge.judge` makes one."""

    verdict: Literal["passed"] = "passed"
    gate: Literal["judge"] = "judge"
    findings: tuple[Finding, ...] = Field(min_length=1)
    policy_sha256: str
    model: str
    version: str
    # The very files that were judged, and the configuration that answered.
    package_sha256: str
    spec: ServingSpec
    known_answers_share: float = Field(
        gt=0, le=1, description="Known answers that the probe must see again."
    )
    drawn_answers: int = Field(
        default=0, ge=0, description="Held-out prompts that the probe draws by chance."
    )
    canary: CanaryPlan | None = Field(
        default=None,
        description="How it is tried on a share of the traffic before it gets all of it.",
    )
    replica_quorum: Quorum = Field(
        default=100, description="Percent of the replicas that have to answer with it."
    )
    registration: int | None = Field(
        default=None,
        description="The ledger's entry that says where the version came from.",
    )
    waivers: tuple[int, ...] = Field(
        default=(),
        description="The ledger's entries that stand in for missing evidence.",
    )
    signed_by: str | None = Field(
        default=None,
        description="The key that signed the package; None: it passed without a signature.",
    )


ScreenVerdict = Annotated[
    Finalist | Rejection | Undecided, Field(discriminator="verdict")
]
JudgeVerdict = Annotated[
    Candidate | Rejection | Undecided, Field(discriminator="verdict")
]
_SCREEN_VERDICT: TypeAdapter[Finalist | Rejection | Undecided] = TypeAdapter(
    ScreenVerdict
)
_JUDGE_VERDICT: TypeAdapter[Candidate | Rejection | Undecided] = TypeAdapter(
    JudgeVerdict
)


def read_screen_verdict(path: Path) -> Finalist | Rejection | Undecided:
    """Read the verdict of `screen`; `DamagedFile` where it is missing or forged, never a pass."""
    try:
        return _SCREEN_VERDICT.validate_json(path.read_bytes(), context=_AS_STORED)
    except (OSError, ValidationError) as error:
        raise DamagedFile(
            f"{path} holds no verdict. Run `dvc repro screen`."
        ) from error


def read_judge_verdict(path: Path) -> Candidate | Rejection | Undecided:
    """Read the verdict of `judge`.

    `DamagedFile` where it is missing or forged, or is another gate's verdict.
    """
    try:
        verdict = _JUDGE_VERDICT.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DamagedFile(
            f"{path} holds no verdict of judge. Promote the version again."
        ) from error
    # A rejection has the same fields, whichever gate it is from.
    if verdict.gate != "judge":
        raise DamagedFile(
            f"{path} holds a verdict of {verdict.gate}, not of judge. Promote the version again."
        )
    return verdict
