"""CSV and its like: fields between commas, semicolons, tabs or bars, under a line of names."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from core.errors import UnreadableData
from pipelines.rows.files.encodings import Utf8Stream
from pipelines.rows.files.lines import BoundedLines, RowTooLong
from pipelines.rows.files.records import (
    MAX_ROW_BYTES,
    Entry,
    Record,
    Records,
    name_unnamed,
    refuse_repeated_columns,
    set_aside,
)

CANDIDATES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
RECORDS_JUDGED = 200
# What the error handler `surrogateescape` makes of bytes that are not UTF-8.
UNDECODED = re.compile(r"[\udc80-\udcff]")
# As `BoundedLines` splits them.
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_SPACED_QUOTE = re.compile(' +"')
# Excel reads it from the first line of a file.
_DECLARED = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)


@dataclass(frozen=True)
class Delimiter:
    """What stands between two fields, and how far it can be trusted."""

    character: str
    is_certain: bool
    others: tuple[str, ...] = ()
    """What would fit as well."""
    skips_spaces: bool = False
    """Whether quotes stand behind a space, as in `"a", "b"`."""

    @property
    def name(self) -> str:
        """As a sentence says it."""
        return CANDIDATES.get(self.character, repr(self.character))


@dataclass(frozen=True)
class _Fit:
    character: str
    width: int
    share: float
    """Share of the records that are as wide as the header."""


def judge_spaces(sample: str, delimiter: Delimiter, *, is_whole: bool) -> Delimiter:
    """Return the delimiter as one that spaces follow, where quoted fields show that.

    Such quotes would be text, and a delimiter within them would cut a field.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _LINE.findall(sample)
    reader = csv.reader(lines, delimiter=delimiter.character, strict=True)
    records = islice(_records(reader), RECORDS_JUDGED + 1)
    fields = [field for record in records for field in record]
    if not any(map(_SPACED_QUOTE.match, fields)):
        return delimiter
    plain = _measure(sample, delimiter.character, is_whole)
    spaced = replace(delimiter, skips_spaces=True)
    skipping = _measure(sample, delimiter.character, is_whole, skips_spaces=True)
    return spaced if skipping.share >= plain.share else delimiter


def judge_delimiter(sample: str, *, is_whole: bool) -> Delimiter | None:
    """Return the delimiter under which records are as wide as their header.

    `is_whole` says that the sample does not end within a record. None where no candidate stands in
    the header: the file has one column, or none.
    """
    declared = _DECLARED.match(sample)
    if declared:
        return Delimiter(declared.group(1), is_certain=True)
    measured = [_measure(sample, character, is_whole) for character in CANDIDATES]
    # One that the header lacks makes one field of each record, and would always fit.
    fits = [fit for fit in measured if fit.width > 1]
    if not fits:
        return None
    # More columns win among those that fit equally well.
    best = max(fits, key=lambda fit: (fit.share, fit.width))
    others = tuple(
        CANDIDATES[fit.character]
        for fit in fits
        if fit is not best and fit.share == best.share
    )
    is_certain = best.share == 1 and not others
    return Delimiter(best.character, is_certain=is_certain, others=others)


def _measure(
    sample: str, character: str, is_whole: bool, *, skips_spaces: bool = False
) -> _Fit:
    # Python's own limit is lower, and the same for every reader of a process.
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _LINE.findall(sample)
    reader = csv.reader(
        lines,
        delimiter=character,
        skipinitialspace=skips_spaces,
        strict=True,
    )
    records = islice(_records(reader), RECORDS_JUDGED + 1)
    widths = [len(fields) for fields in records]
    # The sample ends within the last record.
    if not is_whole and len(widths) <= RECORDS_JUDGED:
        widths.pop()
    if not widths:
        return _Fit(character, 0, 0)
    header, *others = widths
    fitting = sum(1 for width in others if width == header)
    return _Fit(character, header, fitting / len(others) if others else 1)


def _records(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """Yield the fields of each record; none for one that does not parse."""
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield []
            continue
        if fields:
            yield fields


def read_delimited(path: Path, text: Utf8Stream, delimiter: Delimiter) -> Records:
    """Yield one record after the other. Its number counts records, from 1 after the header.

    An empty line is no record and takes no number; each line that an unclosed quote swallows is a
    row that is lost, and counts.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = BoundedLines(text)
    # Bytes that are not UTF-8 become surrogates here, so that only the record
    # that holds them is set aside.
    decoded = map(_decode_with_surrogates, lines)
    reader = csv.reader(
        decoded,
        delimiter=delimiter.character,
        skipinitialspace=delimiter.skips_spaces,
        strict=True,
    )
    header = _read_header(path, reader, delimiter.character)
    if UNDECODED.search("".join(header)):
        raise UnreadableData(
            f"{path} has a header line of {text.reason()}. "
            "Name the encoding of the file with `--set data.encoding=…`."
        )
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
                yield set_aside(number + offset, reason)
            number += lost - 1
            continue
        if not fields:
            # An empty line is no record and takes no number.
            number -= 1
            continue
        yield _build_record(number, header, fields, text)


def _read_header(path: Path, reader: Iterator[list[str]], delimiter: str) -> list[str]:
    # The line `sep=;`, in which the delimiter makes two fields.
    no_headers: tuple[list[str], ...] = (
        [],
        ["sep=", ""],
        ["SEP=", ""],
        [f"sep={delimiter}"],
    )
    try:
        header = next((fields for fields in reader if fields not in no_headers), [])
    except (csv.Error, RowTooLong) as error:
        raise UnreadableData(
            f"{path} has no header line that can be read ({error}). "
            "Write the column names in the first line."
        ) from error
    named = [name for name in header if name.strip()]
    refuse_repeated_columns(path, named)
    return header


def _build_record(
    number: int, header: list[str], fields: list[str], text: Utf8Stream
) -> Entry:
    line = ",".join(fields)
    if UNDECODED.search(line):
        return set_aside(number, text.reason(), line)
    expected = len(header)
    if len(fields) != expected:
        reason = f"{len(fields)} fields where the header names {expected}"
        return set_aside(number, reason, line)
    record: Record = {}
    for place, name in enumerate(header):
        entry = fields[place]
        if name.strip():
            record[name] = entry
        # As in a workbook, an empty column without a name is none.
        elif entry:
            record[name_unnamed(place + 1)] = entry
    return number, record


def _decode_with_surrogates(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")
