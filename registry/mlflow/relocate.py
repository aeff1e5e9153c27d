"""Artifact addresses in MLflow's database, rewritten for another folder.

The one place that knows those tables. MLflow stores absolute addresses, `file:///FOLDER/…` or
`/FOLDER/…`; one that leads elsewhere (a bucket, a server) is left alone.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from core.errors import RegistryError
from registry.mlflow.connection import EXPERIMENT

ARTIFACTS = "mlflow-artifacts"
"""The folder beside the database, where `registry/mlflow/connection.py` puts it."""


@dataclass(frozen=True)
class _Column:
    """A column of addresses, and which of its rows hold any."""

    table: str
    name: str
    condition: str = ""


_COLUMNS = (
    _Column("experiments", "artifact_location"),
    _Column("runs", "artifact_uri"),
    _Column("logged_models", "artifact_location"),
    _Column("model_versions", "source"),
    _Column("model_versions", "storage_location"),
    _Column("workspaces", "default_artifact_root"),
    _Column("workspaces", "trace_archival_location"),
    # The other tags of a trace are people's texts, which may begin like an address.
    _Column("trace_tags", "value", "AND key = 'mlflow.artifactLocation'"),
)


def relocate(database: Path, former: Path, current: Path) -> int:
    """Rewrite every address below the folder `former` to one below `current`, all or none.

    Gives how many changed. `RegistryError` where the database cannot be written.
    """
    try:
        # The connection is the transaction: it is rolled back on an error.
        with closing(sqlite3.connect(database)) as connection, connection:
            return sum(
                _rewrite(connection, column, former, current) for column in _COLUMNS
            )
    except sqlite3.Error as error:
        raise RegistryError(
            f"MLflow's database {database} cannot be changed ({error}). "
            "Make room, or use the MLflow that this Assay asks for (`assay doctor`)."
        ) from error


def find_former_home(database: Path) -> Path | None:
    """The home that a database was in when its addresses were written; None if it never moved.

    `RegistryError` where the database cannot be read.
    """
    artifacts = database.parent.resolve() / ARTIFACTS
    statement = "SELECT artifact_location FROM experiments WHERE name = ?"
    for address in _read(database, statement, EXPERIMENT):
        recorded = _artifacts_folder_of(address)
        if recorded is not None and not _is_same(recorded, artifacts):
            return recorded.parent
    return None


def _artifacts_folder_of(address: str) -> Path | None:
    """The folder of artifacts that an address is in; None where it leads elsewhere."""
    folder = _folder_of(address)
    if folder is None:
        return None
    for candidate in (folder, *folder.parents):
        if candidate.name == ARTIFACTS:
            return candidate
    return None


def find_left_behind(database: Path, former: Path, current: Path) -> Path | None:
    """A recorded file or folder that is below `former` and not below `current`, if there is any.

    `RegistryError` where the database cannot be read.
    """
    for folder in _recorded_folders(database):
        if not folder.is_relative_to(former):
            continue
        moved = current / folder.relative_to(former)
        # What is in neither place was deleted before the move, and is nobody's loss.
        if folder.exists() and not moved.exists():
            return folder
    return None


def _recorded_folders(database: Path) -> Iterator[Path]:
    for column in _COLUMNS:
        statement = (
            f"SELECT DISTINCT {column.name} FROM {column.table} "  # noqa: S608 - our own names
            f"WHERE {column.name} IS NOT NULL {column.condition}"
        )
        for address in _read(database, statement):
            folder = _folder_of(address)
            if folder is not None:
                yield folder


def _read(database: Path, statement: str, *parameters: str) -> list[str]:
    # Not created where it is missing: an empty one would say that nothing was ever registered.
    uri = f"{database.resolve().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            rows = connection.execute(statement, parameters)
            return [str(row[0]) for row in rows]
    except sqlite3.Error as error:
        # A table or a column that this MLflow does not have holds no addresses.
        if "no such" in str(error):
            return []
        raise RegistryError(
            f"MLflow's database {database} cannot be read ({error}). "
            "Run the same command again, or bring it back from a backup."
        ) from error


def _folder_of(address: str) -> Path | None:
    """The folder of an address on a disk; None for one of another kind."""
    if address.startswith("file:"):
        path = urlsplit(address).path
        return Path(unquote(path))
    return Path(address) if address.startswith("/") else None


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names lead to one folder, as a link or a second mount does."""
    if one == other:
        return True
    if not one.exists() or not other.exists():
        return False
    return one.samefile(other)


def _rewrite(
    connection: sqlite3.Connection, column: _Column, former: Path, current: Path
) -> int:
    """Rewrite one column's addresses; gives how many changed."""
    name = column.name
    # Compared with a slash behind it: /home is not the beginning of /home-2.
    statement = (
        f"UPDATE {column.table} "  # noqa: S608 - our own names
        f"SET {name} = :new || substr({name}, length(:old) + 1) "
        f"WHERE ({name} = :old OR substr({name}, 1, length(:old) + 1) = :old || '/') "
        f"{column.condition}"
    )
    forms = (
        {"old": former.as_uri(), "new": current.as_uri()},
        {"old": str(former), "new": str(current)},
    )
    return sum(connection.execute(statement, form).rowcount for form in forms)
