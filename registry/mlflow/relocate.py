"""Where MLflow's database says that artifacts lie, written anew for another folder: the one place that knows those tables.

MLflow stores absolute addresses, `file:///FOLDER/…` or `/FOLDER/…`; one that leads elsewhere (a bucket, a server) is left alone.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from core.errors import RegistryError
from registry.mlflow.connection import EXPERIMENT

ARTIFACTS = "mlflow-artifacts"
"""The folder beside the database, where `registry/mlflow/connection.py` puts it."""

_ADDRESSES = (
    ("experiments", "artifact_location", ""),
    ("runs", "artifact_uri", ""),
    ("logged_models", "artifact_location", ""),
    ("model_versions", "source", ""),
    ("model_versions", "storage_location", ""),
    ("workspaces", "default_artifact_root", ""),
    ("workspaces", "trace_archival_location", ""),
    ("trace_tags", "value", "AND key = 'mlflow.artifactLocation'"),
)


def relocate(database: Path, before: Path, after: Path) -> int:
    """Have every address below the folder `before` lie below `after`, all or none; gives how many changed."""
    try:
        with closing(sqlite3.connect(database)) as connection, connection:
            return sum(_moved(connection, place, before, after) for place in _ADDRESSES)
    except sqlite3.Error as error:
        raise RegistryError(
            f"MLflow's database {database} cannot be changed ({error}). Make room, or use the MLflow of requirements.lock."
        ) from error


def former_home(database: Path) -> Path | None:
    """The home that a database was in when its addresses were written; None where it has not been moved since."""
    here = database.parent.resolve()
    for address in _read(
        database, "SELECT artifact_location FROM experiments WHERE name = ?", EXPERIMENT
    ):
        folder = _folder_of(address)
        above = () if folder is None else (folder, *folder.parents)
        artifacts = next((each for each in above if each.name == ARTIFACTS), None)
        if artifacts is not None and not _is_same(artifacts, here / ARTIFACTS):
            return artifacts.parent
    return None


def left_behind(database: Path, before: Path, after: Path) -> Path | None:
    """A file or folder that an address names, which lies below `before` and not below `after`; None where there is none."""
    for table, column, which in _ADDRESSES:
        statement = (
            f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL {which}"  # noqa: S608 - names of our own list
        )
        for address in _read(database, statement):
            folder = _folder_of(address)
            if folder is not None and folder.is_relative_to(before):
                here = after / folder.relative_to(before)
                if folder.exists() and not here.exists():
                    return folder
    return None


def _read(database: Path, statement: str, *given: str) -> list[str]:
    try:
        # Not made where it is missing: an empty one would say that nothing was ever registered.
        with closing(
            sqlite3.connect(f"{database.resolve().as_uri()}?mode=rw", uri=True)
        ) as connection:
            return [str(row[0]) for row in connection.execute(statement, given)]
    except sqlite3.Error as error:
        if "no such" in str(
            error
        ):  # a table or a column that this MLflow does not have names nothing
            return []
        raise RegistryError(
            f"MLflow's database {database} cannot be read ({error}). Run the same command again, or bring it back from a backup."
        ) from error


def _folder_of(address: str) -> Path | None:
    """The folder of an address on a disk."""
    if address.startswith("file:"):
        return Path(unquote(urlsplit(address).path))
    return Path(address) if address.startswith("/") else None


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names lead to one folder, as a link or a second mount does."""
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _moved(
    connection: sqlite3.Connection,
    place: tuple[str, str, str],
    before: Path,
    after: Path,
) -> int:
    table, column, which = place
    statement = (
        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "  # noqa: S608 - names of our own list
        f"WHERE ({column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/') {which}"
    )
    forms = ((before.as_uri(), after.as_uri()), (str(before), str(after)))
    return sum(
        connection.execute(statement, {"old": old, "new": new}).rowcount
        for old, new in forms
    )
