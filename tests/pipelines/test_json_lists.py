"""JSON that is not one record a line."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from core.errors import UnreadableData
from pipelines.rows.files.records import MAX_ROW_BYTES
from tests.support.row_files import read

ROWS = [{"prompt": f'p{number} [{{,\\"', "completion": "c, d"} for number in range(5)]
NUMBERED: dict[int, Any] = dict(enumerate(ROWS, start=1))


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows"])
def test_a_list_is_read_under_any_name(
    tmp_path: Path, name: str, indent: int | None
) -> None:
    text = json.dumps(ROWS, indent=indent)
    reading = read(tmp_path / name, text.encode())
    assert reading.records == NUMBERED
    assert reading.notes == (f"{name}: read as a JSON list",)


@pytest.mark.parametrize("name", ["rows.json", "rows.txt", "rows.ndjson", "rows"])
def test_lines_are_read_under_any_name(tmp_path: Path, name: str) -> None:
    text = "\n".join(json.dumps(row) for row in ROWS)
    reading = read(tmp_path / name, text.encode())
    assert reading.records == NUMBERED
    assert reading.notes == (f"{name}: read as JSON lines",)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("key", ["data", "rows", "examples"])
def test_a_list_under_a_usual_key_is_read_and_the_key_is_said(
    tmp_path: Path, key: str, indent: int | None
) -> None:
    document = {"version": 1, "tags": ["a"], key: ROWS, "more": {"list": [1]}}
    reading = read(tmp_path / "rows", json.dumps(document, indent=indent).encode())
    assert reading.records == NUMBERED
    assert f"the JSON list under {key}" in reading.notes[0]


def test_a_list_in_an_object_that_is_longer_than_any_row_is_read(
    tmp_path: Path,
) -> None:
    rows = [{"prompt": "p" * 1000, "completion": str(number)} for number in range(2500)]
    reading = read(tmp_path / "rows", json.dumps({"data": rows}).encode())
    assert list(reading.records) == list(range(1, 2501))
    assert reading.records[2500]["completion"] == "2499"


def test_two_lists_of_records_in_one_object_are_refused(tmp_path: Path) -> None:
    document = {"data": ROWS, "test": ROWS}
    with pytest.raises(UnreadableData, match="two lists of records, under data and te"):
        read(tmp_path / "rows", json.dumps(document).encode())


def test_one_record_on_one_line_is_one_record_whatever_it_holds(tmp_path: Path) -> None:
    record = {"messages": [{"role": "user", "content": "u"}]}
    reading = read(tmp_path / "rows", json.dumps(record).encode())
    assert reading.records == {1: record}


def test_objects_over_several_lines_are_read_one_after_the_other(
    tmp_path: Path,
) -> None:
    text = "\n".join(json.dumps(row, indent=2) for row in ROWS)
    reading = read(tmp_path / "rows", text.encode())
    assert reading.records == NUMBERED
    assert reading.notes == ("rows: read as JSON objects one after the other",)


def test_objects_in_lines_with_commas_at_their_ends_are_read(tmp_path: Path) -> None:
    text = ",\n".join(json.dumps(row) for row in ROWS) + ","
    assert read(tmp_path / "rows", text.encode()).records == NUMBERED


def test_a_broken_element_is_set_aside_and_the_next_ones_are_read(
    tmp_path: Path,
) -> None:
    content = (
        b'[{"prompt": "p"}, {"prompt": NaN}, {"a": 1, "a": 2}, 7, "x", [1], {"p" 3},\n'
        b'{"prompt": "never closed\n}, {"prompt": "caf\xe9"}, , {"prompt": "q"},]\n'
    )
    reading = read(tmp_path / "rows", content)
    assert reading.records == {1: {"prompt": "p"}, 11: {"prompt": "q"}}
    assert list(reading.reasons) == list(range(2, 11))
    assert reading.reasons[2] == "NaN is not a JSON value"
    assert reading.reasons[3] == "the key a twice in one object"
    assert reading.reasons[4] == "not a JSON object but a number"
    assert reading.reasons[8].startswith("not JSON (Invalid control character")
    assert reading.reasons[9] == "invalid UTF-8 (at byte 16)"


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b'[{"a": 1}, {"a": 2', "after record 1, it does not end"),
        (b'[{"a": 1}, {"a": 2}', "after record 1, it does not end"),
        (b'[{"a": 1}] [{"a": 2}]', "after record 1, the file goes on"),
        (b'[{"a": 1}}', "after record 1, it is closed as an object"),
        (b'{"version": 1,\n"data": [{"a": 1}]', "after record 1, it does not end"),
        (b"[" * 100_000, "nests deeper than 10,000"),
    ],
)
def test_a_list_whose_end_is_not_known_is_refused(
    tmp_path: Path, content: bytes, fact: str
) -> None:
    with pytest.raises(UnreadableData, match=fact):
        read(tmp_path / "rows", content)


def test_an_element_that_is_too_long_or_too_deep_is_set_aside(tmp_path: Path) -> None:
    long = b'{"prompt": "' + b"x" * MAX_ROW_BYTES + b'"}'
    deep = b'{"prompt": ' + b"[" * 51 + b"]" * 51 + b"}"
    reading = read(tmp_path / "rows", b"[" + long + b"," + deep + b', {"a": 1}]')
    assert reading.reasons == {
        1: f"a record of more than {MAX_ROW_BYTES:,} bytes",
        2: "JSON nested deeper than 50",
    }
    assert reading.records == {3: {"a": 1}}


def test_a_hundred_megabytes_in_one_element_are_refused_within_a_second(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows"
    with path.open("wb") as stream:
        stream.write(b'[{"prompt": "')
        stream.seek(100_000_000)
        stream.write(b'"}, {"prompt": "p"}]')
    started = time.process_time()
    reading = read(path)
    assert time.process_time() - started < 30
    assert list(reading.reasons) == [1]
    assert reading.records == {2: {"prompt": "p"}}


@pytest.mark.parametrize("content", [b"[]", b" [ ] ", b'{"data": []}'])
def test_a_list_without_elements_has_no_rows(tmp_path: Path, content: bytes) -> None:
    reading = read(tmp_path / "rows", content)
    assert not [record for record in reading.records.values() if record != {"data": []}]
    assert reading.reasons == {}


def test_marks_that_stand_on_the_border_of_two_chunks_are_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.dumps(ROWS).encode()
    for size in (1, 2, 3, 7):
        monkeypatch.setattr("pipelines.rows.files.json_cutter.CHUNK", size)
        assert read(tmp_path / "rows", content).records == NUMBERED


@pytest.mark.parametrize(
    "first",
    [
        '{"prompt": "p", "messages": [{"role": "user"',
        '{"prompt": "never closed',
        '{"prompt": NaN}',
        '{"prompt": "p"} and more',
        "{broken",
    ],
)
def test_a_broken_first_line_spoils_no_other_line(tmp_path: Path, first: str) -> None:
    reading = read(tmp_path / "rows", f'{first}\n{{"a": 1}}\n{{"b": 2}}\n'.encode())
    assert list(reading.reasons) == [1]
    assert reading.records == {2: {"a": 1}, 3: {"b": 2}}


@pytest.mark.parametrize("rows", [ROWS, [{"prompt": "p" * 1000}] * 2000])
def test_a_list_under_another_key_is_refused_with_the_key(
    tmp_path: Path, rows: list[Any]
) -> None:
    text = json.dumps({"version": 1, "entries": rows}, indent=1)
    with pytest.raises(UnreadableData, match="one JSON object with records under entr"):
        read(tmp_path / "rows", text.encode())


@pytest.mark.parametrize("indent", [None, 1])
def test_one_record_that_holds_a_list_of_objects_is_a_record(
    tmp_path: Path, indent: int | None
) -> None:
    record = {"prompt": "p", "completion": "c", "data": [{"a": 1}]}
    content = json.dumps(record, indent=indent).encode()
    assert read(tmp_path / "rows", content).records == {1: record}
