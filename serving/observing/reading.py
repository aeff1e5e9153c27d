"""Records for whoever monitors or trains: what an endpoint kept of requests and of ratings."""

from collections.abc import Mapping
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
    journal = folder / JOURNAL
    tables: list[Any] = []
    for _ in range(_TRIES):
        before = _identity(journal)
        latest = read_journal(journal, columns) if before else None
        tables = read_parquet(sorted(folder.glob(f"{name}-*.parquet")), columns)
        if latest is not None:
            tables.append(latest)
        # Another journal by now: its rows would be there twice.
        if _identity(journal) == before:
            break
    return joined(tables, columns)


def _identity(journal: Path) -> int:
    """Which file it is; 0 where there is none."""
    try:
        return journal.stat().st_ino
    except FileNotFoundError:
        return 0
