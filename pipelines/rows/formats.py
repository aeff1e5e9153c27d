"""Files that people bring: JSONL, CSV and Parquet, one record at a time, with true numbers.

What cannot be read as a record comes out as a `QuarantinedRow`; only a file that cannot be read at all is an error.
JSONL ends a line at LF only (a CR before it goes; U+2028 is text), a byte order mark at the start of a file is dropped.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from core.errors import UnreadableData
from pipelines.rows.text import excerpt
from pipelines.values.dataset import QuarantinedRow

MAX_ROW_BYTES = 1_000_000
MAX_DEPTH = 50
BOM = b"\xef\xbb\xbf"
JSON_MARK = re.compile(r'\\.|["\[\]{}]')
UNDECODED = re.compile(r"[\udc80-\udcff]")
PARQUET_BATCH = 256

Record = dict[str, Any]
Records = Iterator[tuple[int, Record] | QuarantinedRow]


class RowTooLong(ValueError):
    """A line is longer than any row may be."""


def read_records(path: Path) -> Records:
    """Yield (number from 1, record) or what was set aside: lines of JSONL, records of CSV and Parquet."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UnreadableData(
            f"{path} has a format that is not known ({path.suffix or 'no extension'}). Known are {', '.join(READERS)}."
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
            f"{path} cannot be read ({error.strerror or error}). Check the file and its permissions."
        ) from error


def parse_json(text: str) -> Any:
    """Parse JSON of bounded depth without NaN; anything else is a ValueError whose text is a reason."""
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise ValueError(f"JSON nested deeper than {MAX_DEPTH}")
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, object_pairs_hook=_without_doubles
        )
    except json.JSONDecodeError as error:
        raise ValueError(
            f"not JSON ({error.msg} at character {error.pos + 1})"
        ) from error


def _read_jsonl(_path: Path, stream: IO[bytes]) -> Records:
    lines = BoundedLines(stream)
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except RowTooLong as error:
            yield QuarantinedRow(
                number=lines.number, id=None, reason=str(error), excerpt=""
            )
            continue
        if line.strip():
            yield _json_record(lines.number, line.rstrip(b"\r\n"))


def _json_record(number: int, line: bytes) -> tuple[int, Record] | QuarantinedRow:
    try:
        record = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return _set_aside(
            number,
            f"invalid UTF-8 (at byte {error.start + 1})",
            line.decode("utf-8", "replace"),
        )
    except ValueError as error:
        return _set_aside(number, str(error), line.decode("utf-8"))
    if not isinstance(record, dict):
        return _set_aside(
            number, f"not a JSON object but {_json_type(record)}", line.decode("utf-8")
        )
    return number, record


def _read_csv(path: Path, stream: IO[bytes]) -> Records:
    csv.field_size_limit(MAX_ROW_BYTES)
    # Bytes that are not UTF-8 become surrogates here, so that only the record that holds them is set aside.
    lines = BoundedLines(stream)
    reader = csv.reader(map(_with_surrogates, lines), strict=True)
    header = _csv_header(path, reader)
    number = 0
    while header:
        number, before = number + 1, lines.number
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, RowTooLong) as error:
            # A quote that is never closed swallows every line after it: each of them is a row that is lost, and counts.
            swallowed = max(1, lines.number - before)
            yield from (
                _set_aside(number + line, f"not a CSV record ({error})", "")
                for line in range(swallowed)
            )
            number += swallowed - 1
            continue
        if not fields:
            number -= 1
            continue
        yield _csv_record(number, header, fields)


def _csv_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next((fields for fields in reader if fields), [])
    except (csv.Error, RowTooLong) as error:
        raise UnreadableData(
            f"{path} has no header line that can be read ({error}). Write the column names in the first line."
        ) from error
    _refuse_repeated(path, header)
    return header


def _refuse_repeated(path: Path, columns: Sequence[str]) -> None:
    repeated = sorted(name for name, times in Counter(columns).items() if times > 1)
    if repeated:
        raise UnreadableData(
            f"{path} has more than one column named {', '.join(map(repr, repeated))}. Rename or remove one."
        )


def _csv_record(
    number: int, header: list[str], fields: list[str]
) -> tuple[int, Record] | QuarantinedRow:
    whole = ",".join(fields)
    if UNDECODED.search(whole):
        return _set_aside(number, "invalid UTF-8", whole)
    if len(fields) != len(header):
        return _set_aside(
            number, f"{len(fields)} fields where the header names {len(header)}", whole
        )
    return number, dict(zip(header, fields, strict=True))


def _read_parquet(path: Path, stream: IO[bytes]) -> Records:
    import pyarrow as pa
    from pyarrow import parquet

    if not path.stat().st_size:
        return
    try:
        number, table = 0, parquet.ParquetFile(stream)
        _refuse_repeated(path, table.schema_arrow.names)
        for batch in table.iter_batches(batch_size=PARQUET_BATCH):
            for index in range(batch.num_rows):
                number += 1
                yield _parquet_record(number, batch.slice(index, 1))
    except pa.ArrowException as error:
        raise UnreadableData(
            f"{path} is not a whole Parquet file ({excerpt(str(error))[:80]}). Write it again."
        ) from error


def _parquet_record(number: int, row: Any) -> tuple[int, Record] | QuarantinedRow:
    columns = {
        name: _of_its_own(column)
        for name, column in zip(row.schema.names, row.columns, strict=True)
    }
    if sum(column.nbytes for column in columns.values()) > MAX_ROW_BYTES:
        return _set_aside(number, f"a row of more than {MAX_ROW_BYTES:,} bytes", "")
    try:
        return number, {name: column[0].as_py() for name, column in columns.items()}
    except UnicodeDecodeError:
        return _set_aside(number, "invalid UTF-8", "")
    except (
        ValueError,
        ArithmeticError,
        LookupError,
    ) as error:  # a date beyond any calendar, a time zone that nobody knows
        return _set_aside(
            number, f"a value that cannot be read ({excerpt(str(error))[:80]})", ""
        )


def _of_its_own(column: Any) -> Any:
    """A dictionary's values stand beside all its rows: without this, each row would be as large as all of them."""
    return (
        column.dictionary_decode() if hasattr(column, "dictionary_decode") else column
    )


READERS: dict[str, Callable[[Path, IO[bytes]], Records]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


class BoundedLines:
    """Lines of a byte stream, of bounded length; a longer one is passed over and told as `RowTooLong`."""

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
            self._pass_over(line)
            raise RowTooLong(f"a line of more than {MAX_ROW_BYTES:,} bytes")
        return line.removeprefix(BOM) if self.number == 1 else line

    def _pass_over(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self.stream.readline(MAX_ROW_BYTES)


def _with_surrogates(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _set_aside(number: int, reason: str, text: str) -> QuarantinedRow:
    return QuarantinedRow(number=number, id=None, reason=reason, excerpt=excerpt(text))


def _depth(text: str) -> int:
    depth = deepest = 0
    inside_string = False
    for mark in JSON_MARK.findall(text):
        if mark == '"':
            inside_string = not inside_string
        elif not inside_string and mark in "[]{}":
            depth += 1 if mark in "[{" else -1
            deepest = max(deepest, depth)
    return deepest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _without_doubles(pairs: list[tuple[str, Any]]) -> Record:
    document = dict(pairs)
    if len(document) < len(pairs):
        repeated = next(
            name
            for name, times in Counter(name for name, _ in pairs).items()
            if times > 1
        )
        raise ValueError(f"the key {excerpt(repeated)} twice in one object")
    return document


def _json_type(document: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(document), "a number")
