"""Files that people bring: JSONL, CSV and Parquet, one record at a time, with true numbers.

What cannot be read as a record comes out as a `QuarantinedRow`; only a file that cannot be
read at all is an error. JSONL ends a line at LF only (a CR before it is dropped; U+2028 is
text). A byte order mark at the start of a file is dropped.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from core.errors import UnreadableData
from pipelines.rows.text import make_excerpt
from pipelines.values.dataset import QuarantinedRow

MAX_ROW_BYTES = 1_000_000
MAX_DEPTH = 50
BOM = b"\xef\xbb\xbf"
JSON_MARK = re.compile(r'\\.|["\[\]{}]')
# What the error handler `surrogateescape` makes of bytes that are not UTF-8.
UNDECODED = re.compile(r"[\udc80-\udcff]")
# Few rows at a time: each may have up to MAX_ROW_BYTES.
PARQUET_BATCH = 256

Record = dict[str, Any]
NumberedRecord = tuple[int, Record]
Records = Iterator[NumberedRecord | QuarantinedRow]


class RowTooLong(ValueError):
    """A line is longer than any row may be."""


def read_records(path: Path) -> Records:
    """Yield (number from 1, record), or the row that was set aside in its place.

    Numbers count lines of JSONL, and records of CSV and Parquet. `UnreadableData` where the
    file as a whole cannot be read.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        extension = path.suffix or "no extension"
        raise UnreadableData(
            f"{path} has a format that is not known ({extension}). "
            f"Known are {', '.join(READERS)}."
        )
    if path.is_dir():
        raise UnreadableData(f"{path} is a folder. Name the file in it.")
    try:
        with path.open("rb") as stream:
            yield from reader(path, stream)
    except FileNotFoundError as error:
        raise UnreadableData(f"{path} does not exist. Check the name.") from error
    except OSError as error:
        raise UnreadableData(
            f"{path} cannot be read ({error.strerror or error}). "
            "Check the file and its permissions."
        ) from error


def parse_json(text: str) -> Any:
    """Parse JSON of bounded depth, without NaN and without repeated keys.

    Anything else is a `ValueError` whose text is the reason for quarantine.
    """
    # Counting brackets is fast and an upper bound: only then is the depth measured.
    brackets = text.count("[") + text.count("{")
    if brackets > MAX_DEPTH and _measure_depth(text) > MAX_DEPTH:
        raise ValueError(f"JSON nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(
            text,
            parse_constant=_refuse_constant,
            object_pairs_hook=_build_object,
        )
    except json.JSONDecodeError as error:
        place = error.pos + 1
        raise ValueError(f"not JSON ({error.msg} at character {place})") from error


def _read_jsonl(_path: Path, stream: IO[bytes]) -> Records:
    lines = BoundedLines(stream)
    while True:
        # `next` by hand: after RowTooLong a `for` loop would not continue.
        try:
            line = next(lines)
        except StopIteration:
            return
        except RowTooLong as error:
            yield _quarantine(lines.number, str(error), "")
            continue
        if line.strip():
            yield _parse_line(lines.number, line.rstrip(b"\r\n"))


def _parse_line(number: int, line: bytes) -> NumberedRecord | QuarantinedRow:
    try:
        record = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = f"invalid UTF-8 (at byte {error.start + 1})"
        return _quarantine(number, reason, line.decode("utf-8", "replace"))
    except ValueError as error:
        return _quarantine(number, str(error), line.decode("utf-8"))
    if not isinstance(record, dict):
        reason = f"not a JSON object but {_name_json_type(record)}"
        return _quarantine(number, reason, line.decode("utf-8"))
    return number, record


def _read_csv(path: Path, stream: IO[bytes]) -> Records:
    csv.field_size_limit(MAX_ROW_BYTES)
    # Bytes that are not UTF-8 become surrogates here, so that only the record
    # that holds them is set aside.
    lines = BoundedLines(stream)
    reader = csv.reader(map(_decode_with_surrogates, lines), strict=True)
    header = _read_csv_header(path, reader)
    number = 0
    while header:
        number += 1
        lines_before = lines.number
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, RowTooLong) as error:
            # A quote that is never closed swallows every line after it:
            # each of them is a row that is lost, and counts.
            lost = max(1, lines.number - lines_before)
            reason = f"not a CSV record ({error})"
            for offset in range(lost):
                yield _quarantine(number + offset, reason, "")
            number += lost - 1
            continue
        if not fields:
            # An empty line is no record and takes no number.
            number -= 1
            continue
        yield _build_csv_record(number, header, fields)


def _read_csv_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next((fields for fields in reader if fields), [])
    except (csv.Error, RowTooLong) as error:
        raise UnreadableData(
            f"{path} has no header line that can be read ({error}). "
            "Write the column names in the first line."
        ) from error
    _refuse_repeated_columns(path, header)
    return header


def _refuse_repeated_columns(path: Path, columns: Sequence[str]) -> None:
    counts = Counter(columns)
    repeated = sorted(name for name, times in counts.items() if times > 1)
    if repeated:
        names = ", ".join(repr(name) for name in repeated)
        raise UnreadableData(
            f"{path} has more than one column named {names}. Rename or remove one."
        )


def _build_csv_record(
    number: int, header: list[str], fields: list[str]
) -> NumberedRecord | QuarantinedRow:
    text = ",".join(fields)
    if UNDECODED.search(text):
        return _quarantine(number, "invalid UTF-8", text)
    expected = len(header)
    if len(fields) != expected:
        reason = f"{len(fields)} fields where the header names {expected}"
        return _quarantine(number, reason, text)
    record: Record = dict(zip(header, fields, strict=True))
    return number, record


def _read_parquet(path: Path, stream: IO[bytes]) -> Records:
    import pyarrow as pa
    from pyarrow import parquet

    if not path.stat().st_size:
        return
    number = 0
    try:
        table = parquet.ParquetFile(stream)
        _refuse_repeated_columns(path, table.schema_arrow.names)
        for batch in table.iter_batches(batch_size=PARQUET_BATCH):
            for index in range(batch.num_rows):
                number += 1
                yield _build_parquet_record(number, batch.slice(index, 1))
    except pa.ArrowException as error:
        detail = make_excerpt(str(error))[:80]
        raise UnreadableData(
            f"{path} is not a whole Parquet file ({detail}). Write it again."
        ) from error


def _build_parquet_record(number: int, row: Any) -> NumberedRecord | QuarantinedRow:
    columns = {
        name: _decode_dictionary(column)
        for name, column in zip(row.schema.names, row.columns, strict=True)
    }
    size = sum(column.nbytes for column in columns.values())
    if size > MAX_ROW_BYTES:
        return _quarantine(number, f"a row of more than {MAX_ROW_BYTES:,} bytes", "")
    try:
        record = {name: column[0].as_py() for name, column in columns.items()}
    except UnicodeDecodeError:
        return _quarantine(number, "invalid UTF-8", "")
    # A date beyond any calendar, a time zone that nobody knows.
    except (ValueError, ArithmeticError, LookupError) as error:
        detail = make_excerpt(str(error))[:80]
        return _quarantine(number, f"a value that cannot be read ({detail})", "")
    return number, record


def _decode_dictionary(column: Any) -> Any:
    """Return the column with its own values only.

    A dictionary's values are stored beside all its rows: without this, each row would seem
    as large as all of them.
    """
    if hasattr(column, "dictionary_decode"):
        return column.dictionary_decode()
    return column


READERS: dict[str, Callable[[Path, IO[bytes]], Records]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


class BoundedLines:
    """Lines of a byte stream, of bounded length; a longer one is skipped as `RowTooLong`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.number = 0

    def __iter__(self) -> "BoundedLines":
        return self

    def __next__(self) -> bytes:
        line = self.stream.readline(MAX_ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > MAX_ROW_BYTES:
            self._skip_rest(line)
            raise RowTooLong(f"a line of more than {MAX_ROW_BYTES:,} bytes")
        return line.removeprefix(BOM) if self.number == 1 else line

    def _skip_rest(self, line: bytes) -> None:
        # In pieces: a line without an end must not be read into memory.
        while line and not line.endswith(b"\n"):
            line = self.stream.readline(MAX_ROW_BYTES)


def _decode_with_surrogates(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _quarantine(number: int, reason: str, text: str) -> QuarantinedRow:
    return QuarantinedRow(
        number=number,
        id=None,
        reason=reason,
        excerpt=make_excerpt(text),
    )


def _measure_depth(text: str) -> int:
    """Count how deep lists and objects are nested, without recursion."""
    depth = deepest = 0
    is_inside_string = False
    # The pattern takes a backslash with what it escapes, so that \" ends no string.
    for mark in JSON_MARK.findall(text):
        if mark == '"':
            is_inside_string = not is_inside_string
        elif not is_inside_string and mark in "[]{}":
            depth += 1 if mark in "[{" else -1
            deepest = max(deepest, depth)
    return deepest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _build_object(pairs: list[tuple[str, Any]]) -> Record:
    """Build a JSON object; a repeated key is a `ValueError`, where json keeps its last value."""
    document = dict(pairs)
    if len(document) < len(pairs):
        # Counted in one pass: a row may have a hundred thousand keys.
        counts = Counter(name for name, _ in pairs)
        repeated = next(name for name in counts if counts[name] > 1)
        shown = make_excerpt(repeated)
        raise ValueError(f"the key {shown} twice in one object")
    return document


def _name_json_type(document: Any) -> str:
    names = {
        list: "a list",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
    }
    return names.get(type(document), "a number")
