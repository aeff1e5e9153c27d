"""The MLflow of a home: at MLFLOW_TRACKING_URI, else a SQLite database of the home's own."""

from contextlib import suppress
from pathlib import Path

from core.console import warn_once
from core.environment import mlflow_address
from core.errors import LedgerError, RegistryError
from core.locks import up_lock
from core.project import Project
from core.settings import Settings
from registry.ledger.entries import Judged, Registered
from registry.ledger.ledger import read_ledger
from registry.mlflow.moved import settle as settle_home
from registry.mlflow.retained import database_file
from registry.mlflow.store import Store


def open_store(project: Project) -> Store:
    """Open MLflow at `MLFLOW_TRACKING_URI`, else in the home's own SQLite database.

    `RegistryError` where that database is lost, or is that of a home whose files are elsewhere.
    """
    address = mlflow_address()
    own_database = project.home / "mlflow.db"
    # Asked before MLflow makes an empty database in place of the lost one.
    if not address and not own_database.is_file():
        _check_not_lost(own_database)
    if not address or database_file(address) == own_database:
        settle_and_report(project.home)
    uri = address or f"sqlite:///{own_database}"
    return Store(uri, locks=project.home / "leases")


def settle_and_report(home: Path) -> None:
    """Have a home that was moved or copied lead to its own files, and say so."""
    sentence = settle_home(home, system=up_lock(home))
    if sentence is not None:
        warn_once(sentence)


def _check_not_lost(database: Path) -> None:
    """`RegistryError` where the home's ledger names versions that the database must have held."""
    # A ledger outside of the home may be that of other homes, too: it proves nothing.
    if Settings().ledger_url or not database.with_name("ledger.db").is_file():
        return
    # A damaged ledger is reported by whoever needs it.
    with suppress(LedgerError):
        for entry in read_ledger(database.parent).entries():
            if isinstance(entry.body, Judged | Registered):
                raise RegistryError(
                    f"There is no MLflow database {database}, though the ledger names versions "
                    "of it, so it is lost. Restore it from a backup,"
                    " or set MLFLOW_TRACKING_URI to where those versions are."
                )
