"""CSV and its like: which delimiter, which lines, which records."""

from pathlib import Path

import pytest

from core.errors import UnreadableData
from tests.support.row_files import read

TABLE = [("prompt", "completion"), *((f"p{n}", f"c{n}") for n in range(1, 6))]
RECORDS = {n: {"prompt": f"p{n}", "completion": f"c{n}"} for n in range(1, 6)}


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.txt", "rows.jsonl"])
@pytest.mark.parametrize(
    ("delimiter", "word"),
    [(",", "commas"), (";", "semicolons"), ("\t", "tabs"), ("|", "bars")],
)
def test_a_delimiter_is_recognised_under_any_name(
    tmp_path: Path, delimiter: str, word: str, name: str
) -> None:
    text = "".join(delimiter.join(fields) + "\n" for fields in TABLE)
    reading = read(tmp_path / name, text.encode())
    assert reading.records == RECORDS
    assert reading.notes == (f"{name}: read as CSV with {word}",)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_line_ends_of_every_system_end_a_record(
    tmp_path: Path, end: str, delimiter: str
) -> None:
    text = "".join(delimiter.join(fields) + end for fields in TABLE)
    reading = read(tmp_path / "rows", text.encode())
    assert reading.records == RECORDS
    assert reading.reasons == {}


def test_line_ends_may_be_mixed(tmp_path: Path) -> None:
    content = b"prompt,completion\r\np1,c1\rp2,c2\np3,c3\r\np4,c4\rp5,c5"
    assert read(tmp_path / "rows", content).records == RECORDS


def test_texts_may_hold_other_delimiters_and_line_ends(tmp_path: Path) -> None:
    commas_in_semicolons = b"prompt;completion\n1,5, or so, please;2,5\na,b;c\n"
    reading = read(tmp_path / "rows", commas_in_semicolons)
    assert reading.records[1] == {"prompt": "1,5, or so, please", "completion": "2,5"}
    semicolons_in_commas = b'prompt,completion\na;b;c,d;e\n"x;\n,\ty|",z\n'
    reading = read(tmp_path / "rows", semicolons_in_commas)
    assert reading.records[1] == {"prompt": "a;b;c", "completion": "d;e"}
    assert reading.records[2] == {"prompt": "x;\n,\ty|", "completion": "z"}
    assert reading.notes == ("rows: read as CSV with commas",)


def test_a_delimiter_under_which_records_differ_is_said_to_be_a_guess(
    tmp_path: Path,
) -> None:
    content = b"prompt;completion\na;b\nc\nd;e\n"
    reading = read(tmp_path / "rows", content)
    assert list(reading.records) == [1, 3]
    assert reading.reasons == {2: "1 fields where the header names 2"}
    note = "read as CSV with semicolons, which is a guess: set data.delimiter to say"
    assert note in reading.notes[0]


def test_two_delimiters_that_fit_are_both_said_and_one_can_be_set(
    tmp_path: Path,
) -> None:
    content = b"a,b;c\n1,2;3\n4,5;6\n"
    reading = read(tmp_path / "rows", content)
    assert "guess" in reading.notes[0]
    assert reading.notes[1] == "rows: semicolons would fit as well"
    reading = read(tmp_path / "rows", content, delimiter=";")
    assert reading.records[1] == {"a,b": "1,2", "c": "3"}
    assert reading.notes == ("rows: read as CSV with semicolons",)


def test_the_delimiter_that_excel_declares_is_taken(tmp_path: Path) -> None:
    content = b"sep=;\r\nprompt;completion\r\na,x;b,x\r\n"
    reading = read(tmp_path / "rows", content)
    assert reading.records == {1: {"prompt": "a,x", "completion": "b,x"}}


def test_one_column_is_a_table_where_its_name_is_one(tmp_path: Path) -> None:
    content = b'messages\n"[{""role"": ""user"", ""content"": ""a, b""}]"\n'
    reading = read(tmp_path / "rows", content)
    assert reading.records == {1: {"messages": '[{"role": "user", "content": "a, b"}]'}}
    with pytest.raises(UnreadableData, match="is text without columns; its first line"):
        read(tmp_path / "rows", b"Once upon a time\nthere was a king.\n")


def test_a_record_that_is_cut_at_the_end_of_the_sample_judges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.rows.files.plans.SAMPLE_BYTES", 40)
    text = "".join(";".join(fields) + "\n" for fields in TABLE)
    reading = read(tmp_path / "rows", text.encode())
    assert reading.records == RECORDS
    assert reading.notes == ("rows: read as CSV with semicolons",)


@pytest.mark.parametrize("how", [{}, {"delimiter": ","}])
def test_quotes_behind_a_space_are_quotes_and_that_is_said(
    tmp_path: Path, how: dict[str, str]
) -> None:
    content = b'"prompt", "completion"\n"q1", "a, b"\n"q2", "c ""d"""\n"q3",  "e"\n'
    reading = read(tmp_path / "rows", content, **how)
    assert reading.reasons == {}
    assert list(reading.records.values()) == [
        {"prompt": "q1", "completion": "a, b"},
        {"prompt": "q2", "completion": 'c "d"'},
        {"prompt": "q3", "completion": "e"},
    ]
    assert "rows: quotes behind a space are read as quotes" in reading.notes[-1]


def test_spaces_and_quotes_within_a_text_stay(tmp_path: Path) -> None:
    content = b'prompt,completion\n"say, ""a""", b\nq,"c, ""d"""\n'
    reading = read(tmp_path / "rows", content)
    assert list(reading.records.values()) == [
        {"prompt": 'say, "a"', "completion": " b"},
        {"prompt": "q", "completion": 'c, "d"'},
    ]
    assert len(reading.notes) == 1
