"""Records for whoever monitors or trains: what an endpoint kept of requests and of ratings."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from serving.observing.parquet import joined, read_journal, read_parquet
from serving.observing.records import FEEDBACK, JOURNAL, REQUESTS, Kind

_FOLDER = "records"
# The endpoint may turn its journal into Parquet while it is read.
_TRIES = 5


def records_folder(home: Path) -> Path:
    """Where a home's endpoint keeps its records, in a folder for each table."""
    return home / "endpoint" / _FOLDER


def read_requests(home: Path) -> Any:
    """The kept requests of a home as one `pyarrow.Table`, the oldest first.

    Up to the last second: also of an endpoint that runs.
    """
    folder = records_folder(home) / "requests"
    return _read(
        folder,
        "requests",
        REQUESTS,
    )


def read_feedback(home: Path) -> Any:
    """The kept ratings of a home as one `pyarrow.Table`, the oldest first.

    `answer_id` is the `id` of the request that it rates.
    """
    folder = records_folder(home) / "feedback"
    return _read(
        folder,
        "feedback",
        FEEDBACK,
    )


def _read(folder: Path, name: str, columns: Mapping[str, Kind]) -> Any:
    tables: list[Any] = []
    for _ in range(_TRIES):
        before = _state_of(folder, name)
        # A file that was turned into Parquet, or deleted as too old, while this looked for it.
        with suppress(FileNotFoundError):
            tables = _tables_of(folder, name, columns)
        # Another journal by now: its rows would be there twice.
        if _state_of(folder, name) == before:
            break
    return joined(tables, columns)


def _tables_of(folder: Path, name: str, columns: Mapping[str, Kind]) -> list[Any]:
    journal = folder / JOURNAL
    latest = read_journal(journal, columns) if journal.exists() else None
    tables = read_parquet(_files_of(folder, name), columns)
    return tables if latest is None else [*tables, latest]


def _files_of(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}-*.parquet"))


def _state_of(folder: Path, name: str) -> tuple[int, list[Path]]:
    """Which journal there is, and which files: a new journal may have the old one's number."""
    return _identity(folder / JOURNAL), _files_of(folder, name)


def _identity(journal: Path) -> int:
    """Which file it is; 0 where there is none."""
    try:
        return journal.stat().st_ino
    except FileNotFoundError:
        return 0
