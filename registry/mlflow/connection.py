"""One MLflow at one address: its client, the experiment that holds the runs, and locks."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from core.errors import RegistryError
from core.locks import exclusive
from registry.mlflow.calls import Calls
from registry.mlflow.places import check_place
from registry.postgresql import find_silence, public_place

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "assay"
REVIEWS = "assay-reviews"
"""The experiment of answers that people rate."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's pages open such an experiment at its runs; without it, at traces of chats."""
_T = TypeVar("_T")


class Connection:
    """A client that is opened when it is first needed.

    Every call is tried a bounded number of times, with jitter.
    """

    def __init__(self, uri: str, locks: Path) -> None:
        self.uri = uri
        self._calls = Calls(uri)
        self._locks = locks
        self._opened: MlflowClient | None = None

    def ask(self, call: "Callable[[MlflowClient], _T]") -> _T:
        """Call the client, and return the result; errors as of `attempt`."""
        return self._calls.attempt(lambda: call(self.client))

    def attempt(self, call: Callable[[], _T]) -> _T:
        """Return the call's result.

        `RegistryError` where MLflow refuses, or does not answer in all attempts.
        """
        return self._calls.attempt(call)

    def look_up(self, call: Callable[[], _T]) -> _T | None:
        """Return the call's result, or None for what MLflow says does not exist."""
        return self._calls.look_up(call)

    @property
    def client(self) -> "MlflowClient":
        """MLflow's own client."""
        # Opening it imports mlflow, which takes seconds: `assay --help` must not pay for it.
        if self._opened is None:
            self._check_database()
            from mlflow import MlflowClient

            self._opened = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._opened

    def _check_database(self) -> None:
        """`RegistryError` within seconds; MLflow itself would try for minutes."""
        if not self.uri.startswith("postgresql+psycopg:"):
            return
        silence = find_silence(self.uri)
        if silence is not None:
            raise RegistryError(
                f"MLflow's database {public_place(self.uri)} does not answer ({silence})."
                " Start PostgreSQL, or correct ASSAY_MLFLOW_DATABASE_URL."
            )

    def experiment(self, name: str = EXPERIMENT) -> str:
        """Id of the experiment that holds every run, or of another; created where it is missing."""
        # One at a time: two processes that both found none would both create it.
        with self.turn("experiment"):
            experiment = self.client.get_experiment_by_name(name)
            if experiment is not None:
                # Whoever made it has chosen where its files go.
                check_place(str(experiment.artifact_location), self.uri)
                return str(experiment.experiment_id)
            location = self._artifact_location()
            return str(self.client.create_experiment(name, location, KIND))

    def _artifact_location(self) -> str | None:
        """In the home where MLflow has no server; a server chooses for itself."""
        if self.uri.startswith("sqlite:///"):
            beside = Path(self.uri.removeprefix("sqlite:///"))
        elif self.uri.startswith("postgresql"):
            # A database of a home's own MLflow: its files stay in the home, as the locks do.
            beside = self._locks
        else:
            return None
        # The artifact root of `assay up` as well: either finds what the other made.
        folder = beside.parent / "mlflow-artifacts"
        return folder.resolve().as_uri()

    @contextlib.contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait until no other process of this machine holds the lock of that name, and hold it."""
        with exclusive(self._locks / f"{name}.lock"):
            yield


def each_of_pages(fetch_page: Callable[[str | None], Any]) -> Iterator[Any]:
    """Every entry of every page; `fetch_page` takes the token that the page before it gave.

    >>> each_of_pages(lambda token: client.search_model_versions(page_token=token))
    """
    token = None
    while True:
        page = fetch_page(token)
        yield from page
        token = page.token
        # An empty page may have a successor: only the token says that it was the last.
        if not token:
            return
