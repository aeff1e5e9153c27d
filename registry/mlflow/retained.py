"""What MLflow keeps for good, and what may be erased of it.

Registered versions stay. The evidence of runs that were refused may be erased.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime

from core.address import shown
from core.errors import RegistryError
from core.value import Value
from registry.mlflow.connection import EXPERIMENT, each_of_pages
from registry.mlflow.places import check_place
from registry.mlflow.recorded import ERASED, PACKAGE, VERDICT, WORKSPACE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_REFUSED = ("rejected", "undecided")
_PAGE = 1000
_LONGEST_QUOTE = 200


class RegisteredVersion(Value):
    """A version, and the run and the workspace that it came from."""

    model: str
    version: str
    package_sha256: str
    run_id: str
    workspace: str


class RefusedRun(Value):
    """A rejected or undecided run whose evidence still exists."""

    run_id: str
    ended: AwareDatetime
    bytes: int
    is_marked: bool
    """It already says that its evidence is erased: a clean-up was interrupted."""


class Retained:
    """MLflow's own records at one address, for clean-ups and for backups."""

    def __init__(self, uri: str) -> None:
        """`uri` is MLflow's address.

        `RegistryError` where it is a SQLite file that is missing: the empty database that MLflow
        would create says that nothing is kept.
        """
        self.uri = uri
        if is_missing(uri):
            raise RegistryError(
                f"There is no MLflow database {database_file(uri)}. "
                "A first `assay run` makes it; one that is lost comes back from a backup."
            )

    def versions(self) -> tuple[RegisteredVersion, ...]:
        """Every version of every registered model."""
        with _explain_errors(self.uri):
            client = self._client()
            entries = each_of_pages(
                lambda token: client.search_model_versions(page_token=token)
            )
            versions = [_parse_registered(entry) for entry in entries]
            return tuple(versions)

    def refused(self) -> tuple[RefusedRun, ...]:
        """Rejected and undecided runs that have evidence to erase."""
        with _explain_errors(self.uri):
            runs = [run for run in self._runs() if _has_ended_refused(run)]
            sizes = [_size(self._artifacts(run)) for run in runs]
        return tuple(
            _parse_refused(run, size)
            for run, size in zip(runs, sizes, strict=True)
            if size > 0
        )

    def erase(self, run_id: str, at: datetime) -> None:
        """Erase a run's evidence; the run, its reasons and its parameters stay."""
        with _explain_errors(self.uri):
            client = self._client()
            run = client.get_run(run_id)
            # Marked before the first file is deleted: half of the evidence must not look whole.
            if ERASED not in run.data.tags:
                client.set_tag(run_id, ERASED, at.isoformat(timespec="seconds"))
            self._artifacts(run).delete_artifacts()

    def _client(self) -> "MlflowClient":
        # Imported here: it takes seconds, and most commands never need it.
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def _artifacts(self, run: "Run") -> Any:
        from mlflow.store.artifact.artifact_repository_registry import (
            get_artifact_repository,
        )

        location = run.info.artifact_uri
        check_place(location, self.uri)
        return get_artifact_repository(location, tracking_uri=self.uri)

    def _runs(self) -> "list[Run]":
        client = self._client()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        runs = each_of_pages(
            lambda token: client.search_runs(
                [experiment.experiment_id],
                max_results=_PAGE,
                page_token=token,
            )
        )
        return list(runs)


def is_missing(uri: str) -> bool:
    """Whether it is a SQLite file that does not exist: any question would create an empty one."""
    database = database_file(uri)
    return database is not None and not database.is_file()


def database_file(uri: str) -> Path | None:
    """The file of a SQLite address; None where a server or another database has the records."""
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return None
    return Path(uri.removeprefix(prefix))


@contextmanager
def _explain_errors(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        fact = str(error).strip().split("\n", 1)[0]
        raise RegistryError(
            f"MLflow at {shown(uri)} did not answer ({fact[:_LONGEST_QUOTE]}). "
            "When it answers, run the same command again."
        ) from error


def _parse_registered(entry: Any) -> RegisteredVersion:
    tags = entry.tags or {}
    return RegisteredVersion(
        model=entry.name,
        version=str(entry.version),
        package_sha256=tags.get(PACKAGE, ""),
        run_id=entry.run_id or "",
        workspace=tags.get(WORKSPACE, ""),
    )


def _has_ended_refused(run: "Run") -> bool:
    # A run without an end may still be writing its evidence.
    verdict = run.data.tags.get(VERDICT)
    has_ended = bool(run.info.end_time)
    was_refused = verdict in _REFUSED
    return has_ended and was_refused


def _parse_refused(run: "Run", size: int) -> RefusedRun:
    # MLflow counts milliseconds.
    ended_at = datetime.fromtimestamp(run.info.end_time / 1000, UTC)
    return RefusedRun(
        run_id=run.info.run_id,
        ended=ended_at,
        bytes=size,
        is_marked=ERASED in run.data.tags,
    )


def _size(repository: Any, folder: str | None = None) -> int:
    """Bytes of everything at an artifact location."""
    # An artifact location lists one folder at a time.
    size = 0
    for item in repository.list_artifacts(folder):
        if item.is_dir:
            size += _size(repository, item.path)
        else:
            size += int(item.file_size or 0)
    return size
