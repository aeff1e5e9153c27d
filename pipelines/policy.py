"""The gates' limits: YAML in `registry/policies/`, parsed into closed models. A verdict records the file's digest."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from pipelines.errors import ParameterError
from pipelines.evidence import System
from pipelines.files import sha256_of
from pipelines.value import Settable, Value, first_problem

NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class AdmitPolicy(Settable):
    """Limits on data before training."""

    max_quarantine_share: Share
    max_overlap: Annotated[int, Field(ge=0)] = Field(description="Held-out prompts that train or dev may repeat.")
    min_rows: dict[str, int] = Field(description="Distinct rows a split needs.")
    min_groups: dict[str, int] = Field(description="Groups a split needs: clusters are what statistics count.")
    licence_required: bool
    min_group_size: Annotated[int, Field(ge=1)] = Field(description="Rows of a sensitive group below which nothing is said.")
    max_demographic_parity_difference: Share


class Guardrail(Settable):
    """A metric that may not get worse by more than `margin`, in the metric's own unit."""

    metric: str
    margin: Annotated[float, Field(gt=0)] = Field(description="Above zero: no number of rows shows that nothing at all was lost.")
    against: tuple[System, ...] = Field(default=("base", "few_shot", "champion", "anchor"), min_length=1)
    required: bool = Field(default=True, description="False: judged only where the parameters ask for the metric.")


class ScreenPolicy(Settable):
    """Limits on evidence before registration."""

    primary: str = Field(description="The metric that must be superior to every comparator.")
    control: str = Field(description="Metric of the negative control: compares an answer with references.")
    smallest_effect: Annotated[float, Field(gt=0)] = Field(description="Difference in the primary metric that is worth a release.")
    alpha: Annotated[float, Field(gt=0, le=0.2)] = Field(description="One-sided level of every comparison.")
    power: Annotated[float, Field(gt=0.5, lt=1)]
    min_clusters: Annotated[int, Field(ge=2)]
    resamples: Annotated[int, Field(ge=1000)]
    seed: Annotated[int, Field(ge=0)]
    guardrails: tuple[Guardrail, ...]
    max_output_score_difference: NonNegative | None = Field(
        description="Largest gap in the bias report's row metric between groups, at the upper end of its interval; null: not judged."
    )


class HumanRatingPolicy(Settable):
    """What people's ratings must amount to."""

    required: bool
    min_raters: Annotated[int, Field(ge=1)]


class JudgePolicy(Settable):
    """What a release needs besides its evidence."""

    human_rating: HumanRatingPolicy
    approvals: Annotated[int, Field(ge=0)] = Field(description="People who approve; who trained it does not count.")
    package_signature_required: bool
    max_age_days: Annotated[float, Field(gt=0, le=3650)] = Field(description="Days from registration to release.")
    known_answers_share: Annotated[float, Field(gt=0, le=1)] = Field(
        description="Share of the scored answers that the loaded release must give again, word for word, before it gets traffic."
    )
    drawn_answers: Annotated[int, Field(ge=5, le=10_000)] = Field(
        default=20, description="Held-out prompts that the endpoint draws by chance before a release, to compare with the scored answers."
    )
    compares_with_last_served: bool = Field(
        default=True, description="The evidence must compare with the last version that had full traffic and is not revoked."
    )


class GatePolicy(Settable):
    """One policy file."""

    name: str
    admit: AdmitPolicy
    screen: ScreenPolicy
    judge: JudgePolicy


class Policy(Value):
    """A policy with the digest of the file it came from."""

    sha256: str
    gates: GatePolicy


def load_policy(path: Path) -> Policy:
    """Read a policy; one that is missing or does not parse fails closed as a `ParameterError`."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Policy(sha256=sha256_of(path), gates=GatePolicy.model_validate(document))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(
            f"The policy {path} cannot be read ({type(error).__name__}). Without a policy nothing passes: bring it back."
        ) from error
    except ValidationError as error:
        raise ParameterError(
            f"The policy {path} does not fit: {first_problem(error)}. Mend it: without a policy nothing passes."
        ) from error
