"""What MLflow holds of a run and of a version, as values, and the names of tags and aliases."""

from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AwareDatetime

from core.value import Value

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

# Tags are written on records that exist: to rename one is to lose what older runs say.
AUTHOR = "assay.by"
MODEL = "assay.model"
KIND = "assay.kind"
RESCORE = "rescore"
"""The kind of a run that scored a version again, on the rows of its day."""
DATA_REVISION = "assay.data_revision"
LOGICAL_RUN = "assay.logical_run"
VERDICT = "assay.verdict"
PACKAGE = "assay.package_sha256"
SERVING_SPEC = "assay.serving_spec"
VERSION = "assay.version"
"""The version that a run scored again, or whose adapter its training produced."""
MADE_AGAIN = "champion"
"""In place of a verdict: training produced the champion's own adapter, so nothing was judged."""
PRIMARY = "assay.primary"
"""The metric by which a run was judged."""
WORKSPACE = "assay.workspace"
"""The workspace that a run works in, or did last."""
RECIPE = "assay.recipe"
"""Digest of data, parameters, base and code: what made a version, whatever it is compared with."""
ERASED = "assay.erased"
"""When a run's evidence was erased: nobody could examine its verdict any more."""

RELEASE_NOTE = "assay.release"
"""On a version's page: what became of the alias `release` there."""
RELEASE_REASON = "release_reason"
"""On a version's page: why a release manager wants it released, before the alias is set."""
RELEASE_RUN = "assay.release_run"
"""On a version's page: the address of its last release's run in Prefect."""

# Aliases.
CHALLENGER, CHAMPION, ANCHOR = "challenger", "champion", "anchor"
RELEASE = "release"
"""What a release manager wants: the wish. `champion` is the fact."""


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


class Point(Value):
    """A number with its bounds, at a time."""

    at: AwareDatetime
    estimate: float
    low: float
    high: float


class ScoredRun(Value):
    """A run that was scored: when, how it ended, and its numbers, as MLflow keeps them."""

    run_id: str
    at: AwareDatetime
    verdict: str
    is_rescore: bool
    version: str | None
    """The version that it registered or scored again."""
    primary: str | None
    """The primary metric of its policy; None in older runs."""
    metrics: dict[str, float]

    def point(self, name: str) -> Point | None:
        """A number with its bounds; None where one of the three is not there."""
        estimate = self.metrics.get(name)
        low = self.metrics.get(f"{name}.low")
        high = self.metrics.get(f"{name}.high")
        if estimate is None or low is None or high is None:
            return None
        return Point(
            at=self.at,
            estimate=estimate,
            low=low,
            high=high,
        )


class Creation(Value):
    """When a version was registered, and who asked for its training."""

    at: AwareDatetime
    by: str


class Page(Value):
    """What a person reads on the version's page."""

    description: str
    tags: dict[str, str]


class Submission(Value):
    """What is to be registered of a finalist: whose package, of which run and model."""

    run: RecordedRun
    package: Path
    model: str
    logical_run: str
    page: Page
    takes_challenger: bool = True


def parse_judged_run(run: "Run") -> JudgedRun:
    """Convert MLflow's record of a run that has a verdict and has ended."""
    tags = run.data.tags
    # MLflow counts milliseconds.
    ended_at = datetime.fromtimestamp(run.info.end_time / 1000, UTC)
    return JudgedRun(
        run_id=run.info.run_id,
        verdict=tags[VERDICT],
        at=ended_at,
        data_revision=tags.get(DATA_REVISION),
    )


def parse_scored_run(run: "Run") -> ScoredRun:
    """Convert MLflow's record; a metric that is no number is left out, as if it were not there."""
    tags = run.data.tags
    ended_at = datetime.fromtimestamp(run.info.end_time / 1000, UTC)
    # Whoever may write there can log anything, and a NaN would spoil every picture.
    metrics = {
        name: number for name, number in run.data.metrics.items() if isfinite(number)
    }
    return ScoredRun(
        run_id=run.info.run_id,
        at=ended_at,
        verdict=tags[VERDICT],
        # Adapters and prompts that were brought are candidates, as those that were trained.
        is_rescore=tags.get(KIND) == RESCORE,
        version=tags.get(VERSION),
        primary=tags.get(PRIMARY),
        metrics=metrics,
    )


def parse_version(entry: "MlflowVersion") -> ModelVersion:
    """Convert MLflow's record of a version; tags that somebody else's version lacks are empty."""
    tags = entry.tags or {}
    return ModelVersion(
        name=entry.name,
        version=str(entry.version),
        run_id=entry.run_id or "",
        package_sha256=tags.get(PACKAGE, ""),
        logical_run=tags.get(LOGICAL_RUN, ""),
    )
