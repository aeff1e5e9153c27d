"""Rows on disk that nobody waits for: a journal of lines, and Parquet once it is large or old.

    put ─▶ bounded queue ─▶ thread ─▶ current.jsonl ─▶ NAME-TIME.parquet ─▶ deleted when too old

A row that finds no room, or a disk that takes none, is lost and counted. A process that is killed
loses the last second: its journal becomes Parquet at the next start.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from core.log import say
from serving.observing.parquet import read_journal, write_parquet
from serving.observing.records import JOURNAL, Bounds, Kind, Row

MakeRow = Callable[[], Row]
# Rows that wait for the disk, and bytes of requests and answers that they hold on to.
_MOST_WAITING = 5_000
_MOST_BYTES_WAITING = 64_000_000
# Of a journal: it is read into memory as a whole.
_LARGEST_JOURNAL = 16_000_000
_ROWS_AT_ONCE = 500
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_BETWEEN_COMPLAINTS = 60.0
_SECONDS_TO_END = 3.0
_MEGABYTE = 2**20
_SECONDS_OF_A_DAY = 86_400


@dataclass(frozen=True)
class Table:
    """What is kept under one name."""

    name: str
    columns: Mapping[str, Kind]
    folder: Path
    bounds: Bounds


class Counts(Protocol):
    """Who is told of rows that were kept and lost."""

    def count_rows(self, store: str, count: int) -> None:
        """So many were written."""

    def count_dropped(self, store: str, reason: str, count: int = 1) -> None:
        """So many were not."""


@dataclass(frozen=True)
class _Waiting:
    make: MakeRow
    size: int


class RecordStore:
    """One table that grows, in a thread of its own."""

    def __init__(self, table: Table, counts: Counts) -> None:
        self._table = table
        self._counts = counts
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(_MOST_WAITING)
        self._bytes_waiting = 0
        # Held for the moment of a sum; never while the disk is asked.
        self._lock = threading.Lock()
        self._is_closing = threading.Event()
        self._rows = 0
        self._began = time.monotonic()
        self._complained = -_SECONDS_BETWEEN_COMPLAINTS
        # A thread of its own: those of the event loop are for what somebody waits for.
        # A daemon: a disk that hangs must not keep the endpoint from ending.
        self._thread = threading.Thread(
            target=self._run, name=f"records of {table.name}", daemon=True
        )
        self._thread.start()

    def put(self, make: MakeRow, size: int = 0) -> None:
        """Have a row made and written; never waits.

        `size` is in bytes, of what `make` holds on to.
        """
        with self._lock:
            if self._bytes_waiting + size > _MOST_BYTES_WAITING:
                self._counts.count_dropped(self._table.name, "queue")
                return
            try:
                self._queue.put_nowait(_Waiting(make, size))
            except queue.Full:
                self._counts.count_dropped(self._table.name, "queue")
                return
            self._bytes_waiting += size

    def close(self) -> None:
        """Write what waits, and give the disk a moment for it."""
        self._is_closing.set()
        # Wakes it; where there is no room it is awake.
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(_SECONDS_TO_END)

    def _run(self) -> None:
        self._try(self._begin)
        while waiting := self._take():
            self._write(waiting)
            if self._is_due:
                self._try(self._rotate)
        self._try(self._rotate)

    def _take(self) -> list[_Waiting | None]:
        """What waits, `None` for nothing just now; an empty list where nothing more comes."""
        taken: list[_Waiting | None] = []
        is_closing = self._is_closing.is_set()
        # It wakes without rows as well: a journal may have become old meanwhile.
        timeout = 0.001 if is_closing else _SECONDS_BETWEEN_LOOKS
        with suppress(queue.Empty):
            while len(taken) < _ROWS_AT_ONCE:
                taken.append(self._queue.get(timeout=timeout))
                timeout = 0.001
        if taken or is_closing:
            return taken
        return [None]

    def _write(self, waiting: Iterable[_Waiting | None]) -> None:
        lines: list[str] = []
        for each in waiting:
            if each is None:
                continue
            with self._lock:
                self._bytes_waiting -= each.size
            line = self._line_of(each)
            if line is not None:
                lines.append(line)
        if not lines:
            return
        if self._try(lambda: self._append(lines)):
            self._rows += len(lines)
            self._counts.count_rows(self._table.name, len(lines))
        else:
            self._counts.count_dropped(self._table.name, "disk", len(lines))

    def _line_of(self, waiting: _Waiting) -> str | None:
        try:
            row = waiting.make()
            return json.dumps(row, default=_encode)
        except Exception as error:  # noqa: BLE001 - one row that cannot be made ends no other
            self._complain(type(error).__name__)
            self._counts.count_dropped(self._table.name, "row")
            return None

    def _append(self, lines: list[str]) -> None:
        self._table.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(self._journal, flags, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as journal:
            # No fsync: a row is worth a second of a crash, and no wait of a busy disk.
            for line in lines:
                journal.write(f"{line}\n")

    def _begin(self) -> None:
        """What an earlier endpoint left is Parquet from now on."""
        # Before anything is appended: its last line may be half of one.
        if self._journal.exists():
            self._rotate()

    def _rotate(self) -> None:
        """Turn the journal into Parquet, then delete what is too old or too much."""
        # First: where the disk takes no file, the next try comes when the next one is due.
        self._rows = 0
        self._began = time.monotonic()
        if self._journal.exists():
            table = read_journal(self._journal, self._table.columns)
            if table is not None:
                moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
                path = self._table.folder / f"{self._table.name}-{moment}.parquet"
                write_parquet(path, table)
            # Last: killed before this, rows are there twice, and none is lost.
            self._journal.unlink()
        prune(self._table)

    @property
    def _journal(self) -> Path:
        return self._table.folder / JOURNAL

    @property
    def _is_due(self) -> bool:
        if self._rows == 0:
            return False
        bounds = self._table.bounds
        age = time.monotonic() - self._began
        if self._rows >= bounds.rotate_rows or age >= bounds.rotate_minutes * 60:
            return True
        with suppress(OSError):
            return self._journal.stat().st_size >= _LARGEST_JOURNAL
        return False

    def _try(self, act: Callable[[], None]) -> bool:
        """Whether the disk let it be done."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - records never stop an endpoint
            fact = error.strerror if isinstance(error, OSError) else None
            self._complain(fact or type(error).__name__)
            return False
        return True

    def _complain(self, fact: str) -> None:
        now = time.monotonic()
        if now - self._complained < _SECONDS_BETWEEN_COMPLAINTS:
            return
        self._complained = now
        say(
            f"Records of {self._table.name} cannot be written to {self._table.folder} "
            f"({fact}): rows are lost and counted, and answers go on."
        )


def prune(table: Table) -> None:
    """Delete what is older than its days, and the oldest files above the limit of the disk."""
    oldest = time.time() - table.bounds.keep_days * _SECONDS_OF_A_DAY
    room = table.bounds.most_megabytes * _MEGABYTE
    # Names have their time in them: the newest first.
    for path in sorted(table.folder.glob(f"{table.name}-*.parquet"), reverse=True):
        state = path.stat()
        room -= state.st_size
        if room < 0 or state.st_mtime < oldest:
            path.unlink()


def _encode(value: Any) -> str:
    if isinstance(value, datetime):
        # As Arrow reads it: in UTC, with a Z.
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    raise TypeError(f"A {type(value).__name__} has no place in a row.")
