"""The MLflow of a home: where MLFLOW_TRACKING_URI says, else a SQLite database of the home's own."""

from contextlib import suppress
from pathlib import Path

from core.console import warn_once
from core.environment import mlflow_address
from core.errors import LedgerError, RegistryError
from core.locks import lock_file
from core.project import Project
from core.settings import Settings
from registry.ledger.entries import Judged, Registered
from registry.ledger.ledger import read_ledger
from registry.mlflow.moved import settle as settle_home
from registry.mlflow.retained import database_file
from registry.mlflow.store import Store


def open_store(project: Project) -> Store:
    """MLflow where `MLFLOW_TRACKING_URI` says, else a SQLite database of the project's own; one that is lost is `RegistryError`."""
    given = mlflow_address()
    own = project.home / "mlflow.db"
    if not given and not own.is_file():
        _check_not_lost(own)  # before MLflow makes an empty one in its place
    if not given or database_file(given) == own:
        tell_moved(project.home)
    return Store(given or f"sqlite:///{own}", locks=project.home / "leases")


def tell_moved(home: Path) -> None:
    """Have a home that was moved or copied lead to its own files, and say so."""
    moved = settle_home(home, system=lock_file(home))
    if moved is not None:
        warn_once(moved)


def _check_not_lost(database: Path) -> None:
    """The home's own ledger names no version that MLflow held; one outside of the home may be that of other homes, too."""
    if Settings().ledger_url or not database.with_name("ledger.db").is_file():
        return
    with suppress(LedgerError):  # said by whoever needs the ledger
        if any(
            isinstance(entry.body, Judged | Registered)
            for entry in read_ledger(database.parent).entries()
        ):
            raise RegistryError(
                f"There is no MLflow database {database}, though the ledger names versions of it, so it is lost. Restore it from a backup,"
                " or set MLFLOW_TRACKING_URI to where those versions are."
            )
