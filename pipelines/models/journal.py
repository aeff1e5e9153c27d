"""Results on their way to disk: what a killed evaluation goes on from.

    key                                  what was asked, of which model, in which batches
    sha256 {"row": 3, "result": […]}     one line a row, a batch at a time
    sha256 {"row": 0, …                  cut short by the kill: dropped, with all that follows

A line counts only where its own digest fits. Digests find damage; they are no signature. Results
stay on the disk: in memory is where each of them begins.
"""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from core.files import digest_of_text

_DIGEST = 16
"""Letters of a line's digest: enough for damage, which nobody aims."""


class Journal:
    """Results by the number of their row, in a file that grows by whole lines."""

    def __init__(self, path: Path, key: str) -> None:
        """Go on from the file at `path` where it is of the same `key`; else begin it anew."""
        self._path = path
        self._places: dict[int, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        end = self._read(_line(key))
        # What does not count must not stand between what does.
        with path.open("ab") as file:
            file.truncate(end)
        if end == 0:
            self._write([_line(key)])

    def __contains__(self, row: int) -> bool:
        """Whether the row has its result."""
        return row in self._places

    def __len__(self) -> int:
        """How many rows have one."""
        return len(self._places)

    def missing(self, rows: Iterable[int]) -> bool:
        """Whether one of these rows has no result yet."""
        return any(row not in self._places for row in rows)

    def add(self, rows: Sequence[int], results: Sequence[Any]) -> None:
        """Write a batch's results, which are JSON; they outlast the process from here on."""
        lines = []
        place = self._path.stat().st_size
        for row, result in zip(rows, results, strict=True):
            line = _line({"row": row, "result": result})
            lines.append(line)
            self._places[row] = place
            place += len(line)
        self._write(lines)

    def read(self, row: int) -> Any:
        """The result of a row; `KeyError` where it has none."""
        place = self._places[row]
        with self._path.open("rb") as file:
            file.seek(place)
            line = file.readline()
        entry = _parse(line)
        # Whole when it was found: nobody else writes while the stage has its turn.
        return entry["result"]

    def remove(self) -> None:
        """Remove the file: what it was for is written."""
        self._path.unlink(missing_ok=True)

    def _read(self, header: bytes) -> int:
        """Find where each result begins; gives where the last whole line ends."""
        if not self._path.is_file():
            return 0
        with self._path.open("rb") as file:
            # Another model, other rows or other parameters: nothing of it is of use.
            if file.readline() != header:
                return 0
            end = len(header)
            for line in file:
                entry = _parse(line)
                # Behind a torn line nothing is believed.
                if entry is None:
                    break
                row: int = entry["row"]
                self._places[row] = end
                end += len(line)
        return end

    def _write(self, lines: Sequence[bytes]) -> None:
        with self._path.open("ab") as file:
            file.write(b"".join(lines))
            file.flush()
            # A machine that loses power must not take finished batches along.
            os.fsync(file.fileno())


def _line(document: Any) -> bytes:
    text = json.dumps(document)
    digest = digest_of_text(text)[:_DIGEST]
    return f"{digest} {text}\n".encode()


def _parse(line: bytes) -> Any:
    """What a line holds; None where it is not whole."""
    text = line.decode("ascii", "replace")
    digest, _, rest = text.partition(" ")
    body = rest.removesuffix("\n")
    has_end = text.endswith("\n")
    # The end of the line alone proves little: a block of the disk may be missing before it.
    if not has_end or digest_of_text(body)[:_DIGEST] != digest:
        return None
    return json.loads(body)
