"""Every way in which a file can be odd, and what becomes of it."""

import json
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from core.errors import UnreadableData
from pipelines.rows.files.records import MAX_DEPTH, MAX_ROW_BYTES
from pipelines.rows.formats import parse_json, read_records
from pipelines.rows.text import (
    canonicalise,
    count_folded_characters,
    find_problem,
    make_excerpt,
)
from pipelines.values.dataset import QuarantinedRow

GOOD = b'{"prompt": "p", "completion": "c"}'


def read(path: Path, content: bytes) -> tuple[dict[int, object], dict[int, str]]:
    """Records by number, and reasons by number."""
    path.write_bytes(content)
    records: dict[int, object] = {}
    reasons: dict[int, str] = {}
    for entry in read_records(path):
        if isinstance(entry, QuarantinedRow):
            reasons[entry.number] = entry.reason
        else:
            records[entry[0]] = entry[1]
    return records, reasons


def test_line_numbers_are_true_after_blank_and_broken_lines(tmp_path: Path) -> None:
    records, reasons = read(
        tmp_path / "rows.jsonl", b"\n".join([GOOD, b"", b"{broken", GOOD, b"[1]", b"3"])
    )
    assert list(records) == [1, 4]
    assert reasons == {
        3: "not JSON (Expecting property name enclosed in double quotes at character 2)",
        5: "not a JSON object but a list",
        6: "not a JSON object but a number",
    }


def test_a_byte_order_mark_and_mixed_line_ends_are_normalised_away(
    tmp_path: Path,
) -> None:
    records, reasons = read(
        tmp_path / "rows.jsonl", b"\xef\xbb\xbf" + GOOD + b"\r\n" + GOOD + b"\n" + GOOD
    )
    assert list(records) == [1, 2, 3]
    assert reasons == {}


def test_a_line_separator_is_text_and_ends_no_line(tmp_path: Path) -> None:
    line = '{"prompt": "one\u2028two\x85three", "completion": "c"}'.encode()
    records, reasons = read(tmp_path / "rows.jsonl", line + b"\n" + GOOD)
    assert records[1] == {"prompt": "one\u2028two\x85three", "completion": "c"}
    assert list(records) == [1, 2]
    assert reasons == {}


def test_invalid_utf8_sets_only_its_own_row_aside(tmp_path: Path) -> None:
    records, reasons = read(
        tmp_path / "rows.jsonl", GOOD + b"\n" + b'{"prompt": "caf\xe9"}' + b"\n" + GOOD
    )
    assert list(records) == [1, 3]
    assert reasons == {2: "invalid UTF-8 (at byte 16)"}


def test_nan_in_json_is_not_a_value(tmp_path: Path) -> None:
    _, reasons = read(tmp_path / "rows.jsonl", b'{"prompt": NaN}')
    assert reasons == {1: "NaN is not a JSON value"}


def test_a_hundred_megabytes_in_one_line_are_refused_within_a_second(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as stream:
        stream.write(b'{"prompt": "')
        stream.seek(100_000_000)
        stream.write(b'"}\n' + GOOD)
    started = time.process_time()  # not what the machine did meanwhile
    entries = list(read_records(path))
    assert time.process_time() - started < 1
    assert isinstance(entries[0], QuarantinedRow)
    assert entries[0].reason == f"a line of more than {MAX_ROW_BYTES:,} bytes"
    assert entries[1] == (2, {"prompt": "p", "completion": "c"})


def test_a_line_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    line = b'{"prompt": "' + b"x" * (MAX_ROW_BYTES - 15) + b'"}'
    records, _ = read(tmp_path / "rows.jsonl", line + b"\n")
    assert list(records) == [1]
    _, reasons = read(tmp_path / "rows.jsonl", line + b" \n")
    assert list(reasons) == [1]


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"a": "\\"[[[", "b":'])
def test_json_nested_100_000_deep_is_refused_within_a_second(opening: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="nested deeper"):
        parse_json(opening * 40_000)
    assert time.process_time() - started < 1


def test_json_nested_as_deep_as_allowed_parses() -> None:
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    with pytest.raises(ValueError, match="nested deeper"):
        parse_json("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


def test_brackets_inside_strings_are_no_nesting() -> None:
    assert parse_json(json.dumps(["[{" * 100 + '"' + "\\"])) == [
        "[{" * 100 + '"' + "\\"
    ]


def test_csv_records_are_counted_not_lines(tmp_path: Path) -> None:
    content = (
        b'\xef\xbb\xbfprompt,completion\r\n"two\nlines",a\r\n\r\nb\r\nc\xe9,d\r\n"say '
        b'""x""",e\r\n'
    )
    records, reasons = read(tmp_path / "rows.csv", content)
    assert records == {
        1: {"prompt": "two\nlines", "completion": "a"},
        4: {"prompt": 'say "x"', "completion": "e"},
    }
    assert reasons == {2: "1 fields where the header names 2", 3: "invalid UTF-8"}


def test_a_csv_record_that_does_not_parse_or_is_too_long_spoils_no_other(
    tmp_path: Path,
) -> None:
    content = (
        b'prompt,completion\na,"b"c\n'
        + b"x" * (MAX_ROW_BYTES + 1)
        + b",b\nd,e\n"
        + b'f,"never closed\n'
    )
    records, reasons = read(tmp_path / "rows.csv", content)
    assert records == {3: {"prompt": "d", "completion": "e"}}
    assert list(reasons) == [1, 2, 4]


def test_every_csv_line_that_a_lost_quote_swallows_counts(tmp_path: Path) -> None:
    good = b"a,b\n" * 40
    records, reasons = read(
        tmp_path / "rows.csv",
        b"prompt,completion\n"
        + good
        + b'"never closed,c\n'
        + good
        + b'd,"e"\n'
        + b"f,g\n",
    )
    assert list(records) == [*range(1, 41), 83]
    assert list(reasons) == list(range(41, 83))


def test_a_csv_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableData, match="more than one column named 'a'"):
        read(tmp_path / "rows.csv", b"a,a\n1,2\n")


def test_a_parquet_file_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(
        pa.table([pa.array(["p"]), pa.array(["q"])], names=["a", "a"]), path
    )
    with pytest.raises(UnreadableData, match="more than one column named 'a'"):
        list(read_records(path))


def test_json_that_says_a_key_twice_is_set_aside(tmp_path: Path) -> None:
    records, reasons = read(
        tmp_path / "rows.jsonl",
        b'{"prompt": "p", "prompt": "q", "completion": "c"}\n' + GOOD,
    )
    assert list(records) == [2]
    assert reasons == {1: "the key prompt twice in one object"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", b"prompt,completion\n"),
        ("rows.csv", b""),
        ("rows.jsonl", b""),
        ("rows.parquet", b""),
    ],
)
def test_a_file_without_rows_is_no_error(
    tmp_path: Path, name: str, content: bytes
) -> None:
    assert read(tmp_path / name, content) == ({}, {})


def test_parquet_rows_are_numbered_across_batches(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame(
        {"prompt": [f"p{number}" for number in range(1, 601)], "completion": "c"}
    ).to_parquet(path)
    entries = [
        entry for entry in read_records(path) if not isinstance(entry, QuarantinedRow)
    ]
    assert [number for number, _ in entries] == list(range(1, 601))
    assert entries[-1] == (600, {"prompt": "p600", "completion": "c"})


def test_a_parquet_row_that_is_too_long_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"prompt": ["p", "x" * (MAX_ROW_BYTES + 1), "q"]}).to_parquet(path)
    entries = list(read_records(path))
    assert isinstance(entries[1], QuarantinedRow)
    assert entries[1].number == 2
    assert entries[2] == (3, {"prompt": "q"})


def test_a_parquet_row_of_a_large_dictionary_is_as_large_as_its_own_value(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.parquet"
    prompts = pa.array(
        [f"{number} {'x' * 1000}" for number in range(1500)]
        + ["y" * (MAX_ROW_BYTES + 1)]
    )
    parquet.write_table(pa.table({"prompt": prompts.dictionary_encode()}), path)
    *entries, last = list(read_records(path))
    assert entries[7] == (8, {"prompt": f"7 {'x' * 1000}"})
    assert not [entry for entry in entries if isinstance(entry, QuarantinedRow)]
    assert isinstance(last, QuarantinedRow)


@pytest.mark.parametrize(
    "when",
    [
        pa.array([2**60], pa.timestamp("us")),
        pa.array([2**40], pa.timestamp("us", "Mars/Olympus")),
        pa.array([2**30], pa.date32()),
    ],
)
def test_a_parquet_value_that_python_cannot_hold_sets_its_row_aside(
    tmp_path: Path, when: pa.Array
) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"prompt": ["p"], "when": when}), path)
    (entry,) = read_records(path)
    assert isinstance(entry, QuarantinedRow)
    assert entry.reason.startswith("a value that cannot be read (")


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnreadableData, match="not a whole Parquet file"):
        read(tmp_path / "rows.parquet", b"PAR1 and then nothing")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    for name, fact in (
        ("folder.jsonl", "is a folder"),
        ("none.jsonl", "does not exist"),
    ):
        with pytest.raises(UnreadableData, match=fact):
            list(read_records(tmp_path / name))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\x00b", "a NUL character"),
        ("a\ud800b", "a lone surrogate"),
        ("a\u202eb", "a bidirectional override"),
        ("a\u2066b", "a bidirectional override"),
        ("a\u200bb", "a zero-width character"),
        ("a\u200db", "a zero-width character"),
        ("é\u200d", "a zero-width character"),
        ("a\U000e0041b", "a zero-width character"),
        ("a" + "\u0301" * 6, "a flood of combining marks"),
        ("a" + "\u0301" * 5, None),
        ("naïve café", None),
        ("می\u200cخواهم", None),
        ("👨\u200d👩\u200d👧", None),
        ("tabs\tand\nlines", None),
    ],
)
def test_text_that_hides_something_is_named(text: str, problem: str | None) -> None:
    assert find_problem(text) == problem


def test_text_is_kept_in_nfc_with_plain_line_ends() -> None:
    assert canonicalise("e\u0301\r\na\rb") == "é\na\nb"


def test_length_is_measured_after_nfkc() -> None:
    assert count_folded_characters("\ufdfa") == 18
    assert count_folded_characters("  a ") == 1


def test_an_excerpt_shows_what_cannot_be_seen() -> None:
    assert make_excerpt("a\x00\u202e") == "a\\u0000\\u202e"
    assert len(make_excerpt("\x00" * 500)) == 200
