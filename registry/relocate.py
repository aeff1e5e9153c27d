"""Where MLflow's database says that artifacts lie, written anew for another folder: the one place that knows those tables.

MLflow stores absolute addresses, `file:///FOLDER/…` or `/FOLDER/…`; one that leads elsewhere (a bucket, a server) is left alone.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from pipelines.errors import RegistryError

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


def _moved(connection: sqlite3.Connection, place: tuple[str, str, str], before: Path, after: Path) -> int:
    table, column, which = place
    statement = (
        f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "  # noqa: S608 - names of our own list
        f"WHERE ({column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/') {which}"
    )
    forms = ((before.as_uri(), after.as_uri()), (str(before), str(after)))
    return sum(connection.execute(statement, {"old": old, "new": new}).rowcount for old, new in forms)
