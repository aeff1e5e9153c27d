"""The MLflow of a home: at MLFLOW_TRACKING_URI, else a database of the home's own."""

from contextlib import suppress
from pathlib import Path

from core.console import warn_once
from core.environment import mlflow_address
from core.errors import LedgerError, RegistryError
from core.locks import up_lock
from core.project import Project
from core.settings import Settings
from registry.ledger.entries import Judged, Received, Registered
from registry.ledger.ledger import read_ledger
from registry.mlflow.moved import settle as settle_home
from registry.mlflow.own_database import (
    check_file_is_current,
    own_database,
    own_file,
)
from registry.mlflow.retained import database_file
from registry.mlflow.store import Store


def open_store(project: Project) -> Store:
    """Open MLflow at `MLFLOW_TRACKING_URI`, else in the home's own database.

    `RegistryError` where that database is lost or was moved, or is that of a home whose files are
    elsewhere.
    """
    named = mlflow_address()
    address = named or own_database(project.home)
    file = own_file(project.home)
    if database_file(address) == file:
        check_file_is_current(project.home)
        # Asked before MLflow makes an empty database in place of the lost one.
        if not named and not file.is_file():
            _check_not_lost(file)
        settle_and_report(project.home)
    return Store(address, locks=project.home / "leases")


def settle_and_report(home: Path) -> None:
    """Have a home that was moved or copied lead to its own files, and say so."""
    # Records in PostgreSQL are not corrected: `own_database` refuses them in another place.
    if database_file(own_database(home)) is None:
        return
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
            if isinstance(entry.body, Judged | Received | Registered):
                raise RegistryError(
                    f"There is no MLflow database {database}, though the ledger names versions "
                    "of it, so it is lost. Restore it from a backup,"
                    " or set MLFLOW_TRACKING_URI to where those versions are."
                )
