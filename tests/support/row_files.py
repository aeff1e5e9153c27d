"""A file of rows as a test writes it, and what was read of it."""

import gzip
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpyxl import Workbook

from pipelines.rows.formats import ReadAs, read_records
from pipelines.rows.misfit import Misfit
from pipelines.rows.reading import read_rows_of
from pipelines.values.dataset import QuarantinedRow, Row
from pipelines.values.params import DataParams

DATA = DataParams(
    source="file",
    licence="CC0-1.0",
    prompt_column="prompt",
    completion_column="completion",
    messages_column="messages",
    group_column=None,
    sensitive_feature=None,
    max_characters=100,
)
"""Parameters of a plain file; a test changes what it is about."""


@dataclass(frozen=True)
class Reading:
    """What came out of a file."""

    records: dict[int, Any]
    """By number."""
    reasons: dict[int, str]
    """Of rows that were set aside, by number."""
    notes: tuple[str, ...]


def read(path: Path, content: bytes | None = None, **how: str) -> Reading:
    """Write `content` where there is some, and read the file."""
    if content is not None:
        path.write_bytes(content)
    file = read_records(path, ReadAs(**how))
    records: dict[int, Any] = {}
    reasons: dict[int, str] = {}
    for entry in file:
        if isinstance(entry, QuarantinedRow):
            assert entry.number not in reasons
            reasons[entry.number] = entry.reason
        else:
            assert entry[0] not in records
            records[entry[0]] = entry[1]
    return Reading(records, reasons, file.notes)


def workbook(*sheets: tuple[str, Sequence[Sequence[Any]]]) -> bytes:
    """Give the bytes of a workbook with these sheets: title and rows."""
    book = Workbook()
    book.remove(book.worksheets[0])
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def repacked(content: bytes, changes: dict[str, Any]) -> bytes:
    """Change members of a zip file: each by a function of its bytes, or to other bytes."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            change = changes.get(name, old.read(name))
            new.writestr(name, change(old.read(name)) if callable(change) else change)
        for name in changes.keys() - set(old.namelist()):
            new.writestr(name, changes[name])
    return stream.getvalue()


def gzipped(content: bytes) -> bytes:
    """Pack as gzip does."""
    return gzip.compress(content)


def make_row(number: int, record: dict[str, Any], data: DataParams) -> Row:
    """Read the only record of a file to a row; `Misfit` where it is set aside."""
    file = read_rows_of([(number, record)], data, "my.jsonl")
    for odd in file.quarantine:
        raise Misfit(odd.reason)
    (row,) = file.rows
    return row
