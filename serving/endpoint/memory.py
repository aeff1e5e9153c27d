"""What the endpoint remembers of the ledger, on its own disk: how things stood when it last saw them verified."""

from pathlib import Path

from pipelines.errors import DamagedFile
from registry.standing import Standing

FOLDER = "endpoint"


def memory_file(home: Path) -> Path:
    """Where it lies."""
    return home / FOLDER / "standing.json"


def recall(home: Path) -> Standing | None:
    """What was remembered; None where nothing was. What is damaged is put aside, and said as `DamagedFile` once."""
    path = memory_file(home)
    if not path.is_file():
        return None
    try:
        return Standing.read(path)
    except DamagedFile as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        raise DamagedFile(f"What the endpoint remembered was damaged. It lies in {aside} now, and the ledger is taken as it is.") from error


def remember(home: Path, standing: Standing) -> None:
    """Keep it, whole or not at all."""
    standing.write(memory_file(home))
