"""That the records of a home are in PostgreSQL: `HOME/postgresql.json`, written by the move.

The SQLite files stay where they were. Without this mark a terminal in which the variables are not
set would go on with the old ones, and the home would have two histories.
"""

import os
from pathlib import Path

from pydantic import AwareDatetime

from core.errors import DamagedFile
from core.value import Value

COMMAND = "assay move-to-postgresql"


class MovedRecords(Value):
    """Where the records of a home went, as people may see it, and when; None: not moved."""

    at: AwareDatetime
    home: str
    """The home's folder at that time, which MLflow's records name."""
    ledger: str | None = None
    mlflow: str | None = None


def moved_file(home: Path) -> Path:
    """The mark of a home whose records were moved."""
    return home / "postgresql.json"


def read_moved(home: Path) -> MovedRecords | None:
    """What was moved; None where nothing was. `DamagedFile` where the mark cannot be read."""
    path = moved_file(home)
    # Unlike `Path.exists` no error in a home of another account: whoever reads on names that.
    if not os.path.exists(path):  # noqa: PTH110
        return None
    try:
        return MovedRecords.read(path)
    # Taken for no mark, it would let two histories begin.
    except DamagedFile as error:
        raise DamagedFile(
            f"{path} cannot be read, so nobody knows where the records of this home are."
            " Bring it back from a backup."
        ) from error
