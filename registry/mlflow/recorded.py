"""What MLflow holds of a run and of a version, as values, and the names of tags and aliases."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AwareDatetime

from core.value import Value

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

AUTHOR, MODEL, KIND, DATA_REVISION = (
    "assay.by",
    "assay.model",
    "assay.kind",
    "assay.data_revision",
)
LOGICAL_RUN, VERDICT, PACKAGE, SERVING_SPEC = (
    "assay.logical_run",
    "assay.verdict",
    "assay.package_sha256",
    "assay.serving_spec",
)
VERSION = "assay.version"
"""The version that a run scored again, or whose adapter its training came to."""
MADE_AGAIN = "champion"
"""In place of a verdict: the run's training came to the champion's own adapter, so that nothing was judged."""
WORKSPACE = "assay.workspace"
"""The workspace that a run works in, or did last."""
RECIPE = "assay.recipe"
"""Digest of data, parameters, base and code, without the champion: what made a version, whatever it was held against."""
ERASED = "assay.erased"
"""When a run's evidence was erased: such a run has no verdict that anybody could look into."""
CHALLENGER, CHAMPION, ANCHOR = "challenger", "champion", "anchor"


class ModelVersion(Value):
    """A registered version: where it is, and the digest of every byte that was registered."""

    name: str
    version: str
    run_id: str
    package_sha256: str
    logical_run: str


class RecordedRun(Value):
    """An MLflow run of a logical run, with its verdict once there is one."""

    run_id: str
    verdict: str | None


class JudgedRun(Value):
    """A run that came to its verdict, and when."""

    run_id: str
    verdict: str
    at: AwareDatetime
    data_revision: str | None


class Made(Value):
    """When a version was registered, and who asked for its training."""

    at: AwareDatetime
    by: str


class Page(Value):
    """What a person reads on the version's page."""

    description: str
    tags: dict[str, str]


class Submission(Value):
    """What is to be registered of a finalist: by which run, which folder's files, as a version of which model, and what its page says."""

    run: RecordedRun
    package: Path
    model: str
    logical_run: str
    page: Page
    takes_challenger: bool = True


def judged_run(run: "Run") -> JudgedRun:
    """A run that has a verdict and has ended."""
    return JudgedRun(
        run_id=run.info.run_id,
        verdict=run.data.tags[VERDICT],
        at=datetime.fromtimestamp(run.info.end_time / 1000, UTC),
        data_revision=run.data.tags.get(DATA_REVISION),
    )


def model_version(entry: "MlflowVersion") -> ModelVersion:
    """A version as MLflow gives it."""
    tags = entry.tags or {}
    return ModelVersion(
        name=entry.name,
        version=str(entry.version),
        run_id=entry.run_id or "",
        package_sha256=tags.get(PACKAGE, ""),
        logical_run=tags.get(LOGICAL_RUN, ""),
    )
