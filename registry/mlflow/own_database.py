"""The database of the MLflow that belongs to a home: PostgreSQL where it is set, else SQLite."""

from pathlib import Path

from core.errors import AssayError, RegistryError
from core.moved_records import COMMAND, MovedRecords, moved_file, read_moved
from core.settings import Settings
from registry.postgresql import postgresql_address, public_place

SETTING = "ASSAY_MLFLOW_DATABASE_URL"


def own_file(home: Path) -> Path:
    """The SQLite file, whether it is used or not."""
    return home / "mlflow.db"


def own_database(home: Path) -> str:
    """The address for MLflow's client and server; on PostgreSQL with its login.

    `RegistryError` where it would begin a second history: the records were moved and the setting
    is missing, or they are in the home's file and the setting leads elsewhere.
    """
    configured = Settings().mlflow_database_url
    moved = _read_moved(home)
    if not configured:
        # The terminal in which a variable was forgotten is the usual case.
        check_file_is_current(home)
        return f"sqlite:///{own_file(home)}"
    address = _address(configured)
    if moved is None or moved.mlflow is None:
        _check_nothing_left(home, address)
    else:
        _check_place(home, moved, address)
    return address


def check_file_is_current(home: Path) -> None:
    """`RegistryError` where the records of the SQLite file were moved to PostgreSQL."""
    moved = _read_moved(home)
    if moved is None or moved.mlflow is None:
        return
    raise RegistryError(
        f"MLflow's records of {home} were moved to {moved.mlflow}, as {moved_file(home)} says."
        f" Set {SETTING} to that database, with its login."
    )


def _address(configured: str) -> str:
    try:
        return postgresql_address(SETTING, configured, "psycopg")
    # Of the kind that this package's callers expect, and without the address in its cause.
    except AssayError as error:
        raise RegistryError(str(error)) from None


def _read_moved(home: Path) -> MovedRecords | None:
    try:
        return read_moved(home)
    except AssayError as error:
        raise RegistryError(str(error)) from error


def _check_nothing_left(home: Path, address: str) -> None:
    database = own_file(home)
    if not database.is_file():
        return
    raise RegistryError(
        f"This home's MLflow records are in {database}, and {SETTING} leads to"
        f" {public_place(address)}. `{COMMAND}` takes them there; unset {SETTING} to go on with"
        " the file."
    )


def _check_place(home: Path, moved: MovedRecords, address: str) -> None:
    # Without login and driver: those may change, and the database is the same.
    place = public_place(address)
    if place != moved.mlflow:
        raise RegistryError(
            f"MLflow's records of {home} were moved to {moved.mlflow}, and {SETTING} leads to"
            f" {place}. Correct {SETTING}; where that database has a new address now, correct"
            f" {moved_file(home)}."
        )
    if Path(moved.home) != home.resolve():
        raise RegistryError(
            f"{home} was in {moved.home} when MLflow's records were moved to {place}, and they"
            " name files there. Move the home back: records in PostgreSQL are not corrected."
        )
