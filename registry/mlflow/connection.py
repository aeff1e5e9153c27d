"""One MLflow at one address: its client, the experiment that runs are in, and turns at what only one may do."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from core.locks import exclusive
from registry.mlflow.calls import Calls

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "assay"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's pages open an experiment of this kind at its runs; without it, at traces of chats, of which there are none."""
_T = TypeVar("_T")


class Connection:
    """A client that is opened when it is first needed. Every call is tried a bounded number of times, with jitter."""

    def __init__(self, uri: str, locks: Path) -> None:
        self.uri = uri
        self._calls = Calls(uri)
        self._locks = locks
        self._opened: MlflowClient | None = None

    def ask(self, call: "Callable[[MlflowClient], _T]") -> _T:
        """What a call of the client gives, as `attempt` does it."""
        return self._calls.attempt(lambda: call(self.client))

    def attempt(self, call: Callable[[], _T]) -> _T:
        """What the call gives; `RegistryError` where MLflow refuses, or does not answer in all attempts."""
        return self._calls.attempt(call)

    def look_up(self, call: Callable[[], _T]) -> _T | None:
        """As `attempt`, with None for what MLflow says does not exist."""
        return self._calls.look_up(call)

    @property
    def client(self) -> "MlflowClient":
        """MLflow's own client."""
        if self._opened is None:
            from mlflow import MlflowClient

            self._opened = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._opened

    def experiment(self) -> str:
        """Id of the experiment that holds every run; made where it is not there yet."""
        with self.turn("experiment"):
            found = self.client.get_experiment_by_name(EXPERIMENT)
            return str(
                found.experiment_id
                if found
                else self.client.create_experiment(EXPERIMENT, self._artifacts(), KIND)
            )

    def _artifacts(self) -> str | None:
        """Beside the database where MLflow has no server; a server chooses for itself."""
        if not self.uri.startswith("sqlite:///"):
            return None
        return (
            (Path(self.uri.removeprefix("sqlite:///")).parent / "mlflow-artifacts")
            .resolve()
            .as_uri()
        )

    @contextlib.contextmanager
    def turn(self, what: str) -> Iterator[None]:
        """Have something to oneself among the processes of this machine."""
        with exclusive(self._locks / f"{what}.lock"):
            yield
