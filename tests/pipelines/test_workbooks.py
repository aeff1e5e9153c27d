"""Excel workbooks: sheets, cells that hold no text, and files that are forged."""

import datetime as dt
import io
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from openpyxl import Workbook, load_workbook

from core.errors import UnreadableData
from pipelines.rows.formats import read_records
from pipelines.rows.reading import read_rows_of
from pipelines.values.params import load_params
from tests.support.row_files import read, repacked, workbook
from tests.support.trials import PARAMS

HEADER = ["prompt", "completion"]
SHEET = "xl/worksheets/sheet1.xml"


def test_a_workbook_is_read_under_any_name_with_the_numbers_of_its_sheet(
    tmp_path: Path,
) -> None:
    content = workbook(("Rows", [[], HEADER, ["p", "c"], [], ["q", "d"]]))
    for name in ("rows.csv", "rows.xlsx", "rows"):
        reading = read(tmp_path / name, content)
        assert reading.records == {
            3: {"prompt": "p", "completion": "c"},
            5: {"prompt": "q", "completion": "d"},
        }
        assert reading.reasons == {}
        assert reading.notes == (
            f"{name}: read as the sheet Rows of an Excel workbook",
        )


def test_the_first_sheet_that_is_shown_and_filled_is_read_and_others_are_said(
    tmp_path: Path,
) -> None:
    content = workbook(
        ("Empty", []), ("One", [HEADER, ["1", "c"]]), ("Two", [HEADER, ["2", "c"]])
    )
    reading = read(tmp_path / "rows", content)
    assert reading.records[2]["prompt"] == "1"
    assert reading.notes[1].startswith("rows: not read: the sheets Two; set data.sheet")
    assert read(tmp_path / "rows", content, sheet="Two").records[2]["prompt"] == "2"
    with pytest.raises(UnreadableData, match="no sheet Three; it has Empty, One, Two"):
        read(tmp_path / "rows", content, sheet="Three")
    book = load_workbook(io.BytesIO(content))
    book["One"].sheet_state = "hidden"
    book.save(tmp_path / "hidden")
    assert read(tmp_path / "hidden").records[2]["prompt"] == "2"


def test_a_workbook_without_cells_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "rows", workbook(("Empty", []))).records == {}
    assert read(tmp_path / "rows", workbook(("Header", [HEADER]))).records == {}


def test_values_keep_their_kind_and_dates_become_text(tmp_path: Path) -> None:
    values: list[Any] = [
        3.0,
        2.5,
        True,
        dt.datetime(2024, 1, 31),  # noqa: DTZ001
        dt.datetime(2024, 1, 31, 8, 30),  # noqa: DTZ001
        dt.time(8, 30),
        "_x0041_b",
        None,
    ]
    names = [f"c{number}" for number in range(len(values))]
    reading = read(tmp_path / "rows", workbook(("A", [names, values])))
    assert list(reading.records[2].values()) == [
        3,
        2.5,
        True,
        "2024-01-31",
        "2024-01-31T08:30:00",
        "08:30:00",
        "Ab",
        None,
    ]
    assert isinstance(reading.records[2]["c0"], int)


def test_errors_and_formulas_without_a_result_are_said_where_they_are(
    tmp_path: Path,
) -> None:
    rows: list[list[Any]] = [
        HEADER,
        ["p", "#REF!"],
        ["p", "=1+1"],
        ["=A2", "=B2"],
        ["p", "c"],
    ]
    reading = read(tmp_path / "rows", workbook(("A", rows)))
    assert list(reading.records) == [2, 3, 4, 5]
    assert str(reading.records[2]["completion"]) == "the error #REF! in cell B2"
    formula = "a formula in cell B3 whose result was not saved"
    assert str(reading.records[3]["completion"]) == formula
    assert str(reading.records[4]["prompt"]).startswith("a formula in cell A4")
    assert reading.records[5] == {"prompt": "p", "completion": "c"}


def test_the_result_of_a_formula_is_read_where_it_was_saved(tmp_path: Path) -> None:
    content = workbook(("A", [HEADER, ["p", "=1+1"]]))
    saved = repacked(
        content, {SHEET: lambda xml: re.sub(rb"<v ?/>|<v></v>", b"<v>2</v>", xml)}
    )
    assert read(tmp_path / "rows", saved).records == {
        2: {"prompt": "p", "completion": 2}
    }


def test_merged_cells_are_said(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.worksheets[0]
    for row in (HEADER, ["p", "c"], ["q", "d"]):
        sheet.append(row)
    sheet.merge_cells("B2:B3")
    book.save(tmp_path / "rows")
    reading = read(tmp_path / "rows")
    assert reading.records[3] == {"prompt": "q", "completion": None}
    assert reading.notes[1].startswith("rows: merged cells: only the first")


def test_columns_without_a_name_cost_no_row_and_are_said(tmp_path: Path) -> None:
    rows = [
        (None, "prompt", " ", "completion", None),
        (0, "p", None, "c"),
        (None, "q", None, "d", None, "a remark"),
    ]
    reading = read(tmp_path / "rows", workbook(("A", rows)))
    assert reading.reasons == {}
    assert reading.records == {
        2: {"column A without a name": 0, "prompt": "p", "completion": "c"},
        3: {"prompt": "q", "completion": "d", "column F without a name": "a remark"},
    }


def test_a_table_that_pandas_writes_with_its_index_is_read_from_each_kind_of_file(
    tmp_path: Path,
) -> None:
    table = pd.DataFrame({"prompt": ["p", "q"], "completion": ["c", "d"]})
    table.to_excel(tmp_path / "rows.xlsx")
    table.to_csv(tmp_path / "rows.csv")
    for name, column in (("rows.xlsx", "A"), ("rows.csv", "1")):
        opened = read_records(tmp_path / name)
        found = read_rows_of(opened.records, load_params(PARAMS).data, name)
        assert [row.prompt for row in found.rows] == ["p", "q"]
        (note,) = [note for note in found.describe().notes if "not used" in note]
        assert f"`column {column} without a name`" in note


def test_a_column_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableData, match="more than one column named 'a'"):
        read(tmp_path / "rows", workbook(("A", [["a", "a"], ["1", "2"]])))


def test_a_sheet_whose_stated_size_is_wrong_is_read_whole(tmp_path: Path) -> None:
    content = workbook(("A", [HEADER, *[[f"p{n}", "c"] for n in range(9)]]))
    forged = repacked(content, {SHEET: lambda xml: xml.replace(b"A1:B10", b"A1:A1")})
    assert forged != content
    assert len(read(tmp_path / "rows", forged).records) == 9


ENTITIES = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "%s">]>' % (b"ha" * 50)


@pytest.mark.parametrize(
    "changes",
    [
        {SHEET: ENTITIES + b"<worksheet>&a;</worksheet>"},
        {"xl/workbook.xml": b"<workbook"},
        {"xl/workbook.xml": ENTITIES + b"<workbook>&a;</workbook>"},
        {SHEET: b"<worksheet><sheetData><row r="},
        {"[Content_Types].xml": b"<Types/>"},
        {SHEET: lambda xml: xml.replace(b'r="2"', b'r="99999999999"')},
        {SHEET: lambda xml: xml.replace(b'r="A2"', b'r="??"')},
    ],
)
def test_a_forged_workbook_is_one_line_and_soon(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    content = workbook(("A", [HEADER, ["p", "c"]]))
    started = time.process_time()
    with pytest.raises(
        UnreadableData, match=r"^\S+ is a workbook (that cannot|without)"
    ):
        read(tmp_path / "rows", repacked(content, changes))
    # A bomb that is unpacked takes minutes.
    assert time.process_time() - started < 30


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    content = workbook(("A", [HEADER, ["p", "c"]]))
    bomb = repacked(content, {"xl/media/image.png": b"\0" * (20 << 20)})
    started = time.process_time()
    with pytest.raises(UnreadableData, match="is a workbook of 20 MB when unpacked"):
        read(tmp_path / "rows", bomb)
    assert time.process_time() - started < 30


def test_a_member_that_holds_more_than_it_says_is_one_line(tmp_path: Path) -> None:
    stream = io.BytesIO(workbook(("A", [HEADER, *[["p" * 50, "c"]] * 500])))
    with zipfile.ZipFile(stream) as archive:
        size = archive.getinfo(SHEET).file_size
    short = stream.getvalue().replace(
        size.to_bytes(4, "little"), (100).to_bytes(4, "little")
    )
    with pytest.raises(UnreadableData, match="is a workbook that cannot be read"):
        read(tmp_path / "rows", short)
