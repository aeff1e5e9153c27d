"""Files that people bring, recognised by what they hold, one record at a time with true numbers.

What cannot be read as a record comes out as a `QuarantinedRow`; only a file that cannot be
read at all is an error. What was recognised is said in notes, and a guess with the parameter that
overrules it. A name says nothing: many a `.csv` holds a workbook.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import UnreadableData
from pipelines.rows.files.encodings import is_lost_to_encoding
from pipelines.rows.files.packed import open_unpacked
from pipelines.rows.files.plans import Reader, plan_file, plan_folder
from pipelines.rows.files.read_as import ReadAs
from pipelines.rows.files.records import (
    NumberedRecord,
    Record,
    Records,
    UnreadableValue,
    parse_json,
)
from pipelines.values.dataset import QuarantinedRow

__all__ = [
    "NumberedRecord",
    "OpenFile",
    "ReadAs",
    "Record",
    "Records",
    "UnreadableValue",
    "describe_lost_characters",
    "parse_json",
    "read_records",
]


@dataclass(frozen=True)
class OpenFile:
    """A file that was recognised: its records, and what a person should know of the reading."""

    records: Records
    """Each is (number, record), or the row that was set aside in its place."""
    notes: tuple[str, ...]

    def __iter__(self) -> Records:
        return self.records


def read_records(path: Path, how: ReadAs | None = None) -> OpenFile:
    """Recognise a file, and give its records as they are read.

    `UnreadableData` where the file as a whole cannot be read: now, or at the record where that
    shows.
    """
    how = how or ReadAs()
    if path.is_dir():
        return _read_folder(path, how)
    if path.exists() and not path.is_file():
        raise UnreadableData(f"{path} is no file, but a device or a pipe. Name a file.")
    # Closed again before the first record is asked for: nobody may ever ask.
    with _explained(path), open_unpacked(path) as (stream, packing):
        if not stream.read(1):
            return OpenFile(iter(()), ())
        plan = plan_file(path, stream, how)
    records = _read_file(path, plan.reader)
    return OpenFile(records, plan.notes(path, packing))


def describe_lost_characters(quarantine: Sequence[QuarantinedRow]) -> tuple[str, ...]:
    """Say that rows were lost for their characters, which is no random loss; else nothing."""
    lost = sum(1 for row in quarantine if is_lost_to_encoding(row.reason))
    if not lost:
        return ()
    rows = "1 row was" if lost == 1 else f"{lost:,} rows were"
    sentence = (
        f"{rows} set aside for characters beyond ASCII that do not decode: no random loss, "
        "since such texts differ from the others; where the file has another encoding, set "
        "data.encoding"
    )
    return (sentence,)


def _read_folder(path: Path, how: ReadAs) -> OpenFile:
    with _explained(path):
        plan, records = plan_folder(path, how)
    return OpenFile(_explain_all(path, records), plan.notes(path, None))


def _read_file(path: Path, reader: Reader) -> Records:
    with _explained(path), open_unpacked(path) as (stream, _):
        yield from reader(stream)


def _explain_all(path: Path, records: Records) -> Records:
    with _explained(path):
        yield from records


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Within, what the system refuses is one sentence about the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableData(f"{path} does not exist. Check the name.") from error
    except OSError as error:
        raise UnreadableData(
            f"{path} cannot be read ({error.strerror or error}). "
            "Check the file and its permissions."
        ) from error
