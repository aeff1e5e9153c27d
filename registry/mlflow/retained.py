"""What MLflow holds for good, and what of it may be erased: registered versions, and the evidence of runs that were refused."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime

from core.errors import RegistryError
from core.value import Value
from registry.mlflow.connection import EXPERIMENT
from registry.mlflow.recorded import ERASED, PACKAGE, VERDICT, WORKSPACE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_REFUSED = ("rejected", "undecided")
_PAGE = 1000


class RegisteredVersion(Value):
    """A version, and the run and the workspace that it came from."""

    model: str
    version: str
    package_sha256: str
    run_id: str
    workspace: str


class RefusedRun(Value):
    """A run with a no as its verdict, whose evidence is still there."""

    run_id: str
    ended: AwareDatetime
    bytes: int
    is_marked: bool
    """It says already that its evidence is erased: a clean-up was cut short."""


class Retained:
    """MLflow's own records at one address, for those who clear up and those who keep copies."""

    def __init__(self, uri: str) -> None:
        """`uri` is MLflow's address. A SQLite file that is not there is an error: an empty database would say that nothing is kept."""
        self.uri = uri
        if is_missing(uri):
            raise RegistryError(
                f"There is no MLflow database {database_file(uri)}. "
                "A first `assay run` makes it; one that is lost comes back from a backup."
            )

    def versions(self) -> tuple[RegisteredVersion, ...]:
        """Every version of every registered model."""
        with _explained(self.uri):
            return tuple(
                _registered(entry)
                for entry in _pages(
                    lambda token: self._client().search_model_versions(page_token=token)
                )
            )

    def refused(self) -> tuple[RefusedRun, ...]:
        """Rejected and undecided runs of which there is something to erase."""
        with _explained(self.uri):
            ended = [
                run
                for run in self._runs()
                if run.data.tags.get(VERDICT) in _REFUSED and run.info.end_time
            ]
            looked_into = [(run, _size(self._artifacts(run))) for run in ended]
        return tuple(_refused(run, size) for run, size in looked_into if size > 0)

    def erase(self, run_id: str, at: datetime) -> None:
        """Erase a run's evidence; the run, its reasons and its parameters stay. It says so before the first file goes."""
        with _explained(self.uri):
            client = self._client()
            run = client.get_run(run_id)
            if ERASED not in run.data.tags:
                client.set_tag(run_id, ERASED, at.isoformat(timespec="seconds"))
            self._artifacts(run).delete_artifacts()

    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def _artifacts(self, run: "Run") -> Any:  # mlflow leaves its methods untyped
        from mlflow.store.artifact.artifact_repository_registry import (
            get_artifact_repository,
        )

        return get_artifact_repository(run.info.artifact_uri, tracking_uri=self.uri)

    def _runs(self) -> "list[Run]":
        client = self._client()
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        return list(
            _pages(
                lambda token: client.search_runs(
                    [experiment.experiment_id], max_results=_PAGE, page_token=token
                )
            )
        )


def is_missing(uri: str) -> bool:
    """It is a SQLite file that is not there: whoever asked MLflow for anything would make an empty one."""
    database = database_file(uri)
    return database is not None and not database.is_file()


def database_file(uri: str) -> Path | None:
    """The file of a SQLite address; None where a server or another database keeps the records."""
    return (
        Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
    )


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        fact = str(error).strip().split("\n", 1)[0][:200]
        raise RegistryError(
            f"MLflow at {uri} did not answer ({fact}). When it answers, run the same command again."
        ) from error


def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def _registered(entry: Any) -> RegisteredVersion:
    tags = entry.tags or {}
    return RegisteredVersion(
        model=entry.name,
        version=str(entry.version),
        package_sha256=tags.get(PACKAGE, ""),
        run_id=entry.run_id or "",
        workspace=tags.get(WORKSPACE, ""),
    )


def _refused(run: "Run", size: int) -> RefusedRun:
    ended = datetime.fromtimestamp(run.info.end_time / 1000, UTC)
    return RefusedRun(
        run_id=run.info.run_id,
        ended=ended,
        bytes=size,
        is_marked=ERASED in run.data.tags,
    )


def _size(place: Any, folder: str | None = None) -> int:
    """Bytes of everything at an artifact location."""
    found = place.list_artifacts(folder)
    return sum(
        _size(place, each.path) if each.is_dir else int(each.file_size or 0)
        for each in found
    )
