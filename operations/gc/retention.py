"""How long unreferenced items are kept: `infra/retention.yaml`, parsed into a closed model."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from core.errors import ParameterError
from core.value import Value, first_problem

FILE = Path("infra/retention.yaml")
Days = Annotated[float, Field(ge=0, le=36_500)]


class Retention(Value):
    """Days, by kind.

    What the ledger names, registered versions and running runs stay, whatever is written here.
    """

    run_refs: Days = Field(description="Git refs of runs that registered nothing.")
    checkpoints: Days = Field(
        description=(
            "Checkpoints, after their last change: a training that was cut off continues from them."
        )
    )
    evidence_copies: Days = Field(
        description="Copies of evidence in `.assay/evidence`; MLflow keeps the evidence itself."
    )
    package_copies: Days = Field(
        description="Copies of packages in `.assay/packages` that the ledger does not name."
    )
    cache_objects: Days = Field(
        description="Files in DVC's cache that no kept run names; never less than an hour."
    )
    refused_runs: Days = Field(
        description=(
            "Evidence in MLflow of rejected and undecided runs, after their end. "
            "The run itself stays."
        )
    )
    logs: Days = Field(description="Log files, after their last line.")


def load_retention(path: Path) -> Retention:
    """Read the policy.

    `ParameterError` where it is missing or does not fit: without a policy nothing is deleted.
    """
    try:
        # Anything but a mapping of exactly these kinds is refused by the model.
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Retention.model_validate(document)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(
            f"The retention policy {path} cannot be read ({type(error).__name__}). "
            "Bring it back."
        ) from error
    except ValidationError as error:
        raise ParameterError(
            f"The retention policy {path} does not fit: {first_problem(error)}. "
            "Fix it; nothing was removed."
        ) from error
