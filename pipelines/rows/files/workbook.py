"""Excel workbooks: the first row that is not empty names the columns.

The number is the sheet's own, as Excel shows it; an empty row is no record. A number stays a
number and a date becomes its ISO text. A cell that holds an error, or a formula whose result was
not saved, is an `UnreadableValue`: its row is set aside where the column is used.
"""

import datetime as dt
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from core.errors import UnreadableData
from pipelines.rows.files.records import (
    MAX_ROW_BYTES,
    Entry,
    Record,
    Records,
    UnreadableValue,
    name_unnamed,
    refuse_repeated_columns,
    set_aside,
)
from pipelines.rows.text import make_excerpt

# All texts of a workbook are in memory at once.
MAX_UNPACKED_BYTES = 256 << 20
MAX_RATIO = 100
UNSUSPICIOUS_BYTES = 16 << 20
# Excel's own limit: a row beyond it is forged, and would be counted up to.
LAST_ROW = 1_048_576
ROWS_AT_ONCE = 512
# What openpyxl raises for parts that are missing, cut or not of their kind. Broken XML is a
# SyntaxError, and an entity, which is forbidden, a ValueError.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_MIDNIGHT = dt.time()
_SHEETS = "xl/worksheets/"
# Merged cells, and formulas.
_MARKS = re.compile(rb"mergeCell |<(?:\w+:)?f[ />]")
CHUNK = 1 << 20
_Cells = list[Any]


@dataclass(frozen=True)
class Sheet:
    """The sheet that is read."""

    title: str | None
    """None where no sheet holds anything."""
    others: tuple[str, ...]
    """Other sheets that hold something."""
    has_merged_cells: bool
    has_formulas: bool


def find_sheet(path: Path, stream: IO[bytes], wanted: str | None) -> Sheet:
    """Choose the sheet that a person named, or the first one that is shown and holds something.

    `UnreadableData` where there is none of that name, or the workbook cannot be read.
    """
    marks = _check_members(path, stream)
    with _explain_damage(path):
        book = _open(stream, has_results=False)
        sheets = {sheet.title: sheet for sheet in book.worksheets}
        filled = [name for name, sheet in sheets.items() if _is_filled(sheet)]
        shown = [name for name in filled if sheets[name].sheet_state == "visible"]
    if not sheets:
        raise UnreadableData(
            f"{path} is a workbook without a sheet that can be read. "
            "Save it as an ordinary .xlsx, or as CSV."
        )
    if wanted is not None and wanted not in sheets:
        raise UnreadableData(
            f"{path} has no sheet {wanted}; it has {', '.join(sheets)}. "
            "Name one with `--set data.sheet=…`."
        )
    title = wanted or next(iter(shown or filled), None)
    return Sheet(
        title,
        others=tuple(name for name in filled if name != title),
        has_merged_cells=b"mergeCell " in marks,
        has_formulas=len(marks - {b"mergeCell "}) > 0,
    )


def read_sheet(path: Path, stream: IO[bytes], sheet: Sheet) -> Records:
    """Yield the records of a sheet."""
    if sheet.title is None:
        return
    header: list[str] = []
    with _explain_damage(path):
        for number, cells in _read_rows(stream, sheet):
            if not _has_value(cells):
                continue
            if header:
                yield _build_record(number, header, cells)
            else:
                header = _read_header(path, cells)


def _is_filled(sheet: Any) -> bool:
    return any(_has_value(cells) for _, cells in _iterate(sheet))


def _has_value(cells: _Cells) -> bool:
    return any(cell is not None for cell in cells)


@contextmanager
def _explain_damage(path: Path) -> Iterator[None]:
    """Within, what openpyxl raises is one sentence about the workbook."""
    try:
        yield
    except _DAMAGE as error:
        # What the system refuses has a number; what openpyxl finds has none.
        if getattr(error, "errno", None) is not None:
            raise
        detail = make_excerpt(str(error))[:80] or type(error).__name__
        raise UnreadableData(
            f"{path} is a workbook that cannot be read ({detail}). "
            "Save it again, or as CSV."
        ) from error


def _check_members(path: Path, stream: IO[bytes]) -> frozenset[bytes]:
    """Refuse a bomb before anything is unpacked; return which of `_MARKS` the sheets hold."""
    with _explain_damage(path), zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        # zipfile unpacks no more of a member than its stated size.
        unpacked = sum(member.file_size for member in members)
        packed = sum(member.compress_size for member in members)
        most_expected = max(UNSUSPICIOUS_BYTES, MAX_RATIO * packed)
        is_bomb = unpacked > most_expected
        if is_bomb or unpacked > MAX_UNPACKED_BYTES:
            raise UnreadableData(
                f"{path} is a workbook of {unpacked >> 20:,} MB when unpacked; up to "
                f"{MAX_UNPACKED_BYTES >> 20} MB, and {MAX_RATIO} times its size, are read. "
                "Save it as CSV."
            )
        sheets = [name for name in archive.namelist() if name.startswith(_SHEETS)]
        return frozenset().union(*(_marks_in(archive, name) for name in sheets))


def _marks_in(archive: zipfile.ZipFile, name: str) -> set[bytes]:
    marks: set[bytes] = set()
    end = b""
    with archive.open(name) as member:
        while chunk := member.read(CHUNK):
            marks.update(_MARKS.findall(end + chunk))
            end = chunk[-20:]
    return marks


def _open(stream: IO[bytes], *, has_results: bool) -> Any:
    """Open a workbook with the results of its formulas, or with the formulas."""
    from openpyxl import load_workbook

    stream.seek(0)
    # `read_only` holds one row at a time, beside the texts of all.
    with warnings.catch_warnings():
        # About styles and validations that no row needs.
        warnings.simplefilter("ignore")
        return load_workbook(stream, read_only=True, data_only=has_results)


def _read_rows(stream: IO[bytes], sheet: Sheet) -> Iterator[tuple[int, _Cells]]:
    """Yield the rows that hold something, with the sheet's own numbers."""
    results = _iterate(_open(stream, has_results=True)[sheet.title])
    if not sheet.has_formulas:
        yield from results
        return
    formulas = _iterate(_open(stream, has_results=False)[sheet.title])
    for (number, cells), (_, written) in zip(results, formulas, strict=True):
        pairs = zip(cells, written, strict=True)
        yield number, [_with_result(cell, formula) for cell, formula in pairs]


def _iterate(sheet: Any) -> Iterator[tuple[int, _Cells]]:
    # A program may have written a wrong size of the sheet, and rows would be lost.
    sheet.reset_dimensions()
    rows = enumerate(sheet.iter_rows(), start=1)
    while True:
        with warnings.catch_warnings():
            # A date that Excel does not know comes as an error in its cell.
            warnings.simplefilter("ignore")
            numbered_rows = list(islice(rows, ROWS_AT_ONCE))
        if not numbered_rows:
            return
        if numbered_rows[-1][0] > LAST_ROW:
            raise ValueError(f"a row beyond {LAST_ROW:,}")
        for number, row in numbered_rows:
            yield number, [_read_cell(cell) for cell in row]


def _read_cell(cell: Any) -> Any:
    value = cell.value
    kind = cell.data_type
    if kind == "e":
        return UnreadableValue(f"the error {value} in cell {cell.coordinate}")
    if kind == "f":
        return UnreadableValue(
            f"a formula in cell {cell.coordinate} whose result was not saved"
        )
    if isinstance(value, str):
        return _unescape(value)
    # Excel knows no date without a time.
    if isinstance(value, dt.datetime) and value.time() == _MIDNIGHT:
        day = value.date()
        return day.isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return value


def _unescape(text: str) -> str:
    """Return the text that Excel shows for what it stores as `_x000D_`."""
    from openpyxl.utils.escape import unescape

    return unescape(text) if "_x" in text else text


def _with_result(result: Any, formula: Any) -> Any:
    is_formula = isinstance(formula, UnreadableValue)
    if result is None and is_formula:
        return formula
    return result


def _read_header(path: Path, cells: _Cells) -> list[str]:
    header = ["" if cell is None else str(cell) for cell in cells]
    names = [name for name in header if name.strip()]
    refuse_repeated_columns(path, names)
    return header


def _build_record(number: int, header: list[str], cells: _Cells) -> Entry:
    """Make a record of a row; cells without a name above them are columns of their own."""
    from openpyxl.utils import get_column_letter

    # A sheet ends each row after its last filled cell.
    record: Record = dict.fromkeys(filter(str.strip, header))
    for place, cell in enumerate(cells):
        name = header[place] if place < len(header) else ""
        if name.strip():
            record[name] = cell
        elif cell is not None:
            letter = get_column_letter(place + 1)
            record[name_unnamed(letter)] = cell
    texts = [cell for cell in cells if isinstance(cell, str)]
    characters = sum(len(text) for text in texts)
    if characters > MAX_ROW_BYTES:
        return set_aside(number, f"a row of more than {MAX_ROW_BYTES:,} characters")
    return number, record
