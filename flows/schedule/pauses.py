"""Which deployments a person paused, read from the home's own Prefect while its server is down."""

import sqlite3
from contextlib import closing
from pathlib import Path

_QUERY = "SELECT name FROM deployment WHERE paused ORDER BY name"


def paused_deployments(home: Path) -> tuple[str, ...]:
    """Their names; none where Prefect kept no records in the home, or ones without deployments."""
    database = home / "prefect/prefect.db"
    if not database.is_file():
        return ()
    # Writable, or SQLite could not read what a killed server left in its log; never made anew.
    address = database.resolve().as_uri()
    uri = f"{address}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return tuple(str(name) for (name,) in connection.execute(_QUERY))
    # A server that was ended at its first start has not made that table.
    except sqlite3.Error:
        return ()
