"""The real suite, run by the real great_expectations over small tables."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import ParameterError
from core.files import sha256_of
from pipelines.stages.validate import load_suite, validate
from pipelines.values.dataset import QuarantinedRow, ValidationReport, read_rows

SUITE = Path(__file__).parents[2] / "data" / "expectations" / "rows.json"
LIMIT = 20

Record = dict[str, Any]


def record(number: int, **changes: Any) -> Record:
    messages = [{"role": "user", "content": f"prompt {number}"}]
    whole = {
        "id": f"{number:016x}",
        "number": number,
        "messages": messages,
        "completion": "c",
        "group": f"g{number}",
        "feature": None,
    }
    return {**whole, **changes}


def checked(
    train: list[Record], into: Path, dev: list[Record] | None = None
) -> ValidationReport:
    return validate(
        {"train": train, "dev": dev or [], "held_out": []},
        load_suite(SUITE),
        LIMIT,
        (),
        into,
    )


def failed(report: ValidationReport) -> set[str]:
    return {
        f"{result.name}({result.column})" if result.column else result.name
        for result in report.expectations
        if not result.passed
    }


def test_whole_rows_pass_and_are_kept(tmp_path: Path) -> None:
    report = checked(
        [record(1), record(2, completion="c" * LIMIT, feature="x")],
        tmp_path,
        dev=[record(3)],
    )
    assert report.passed
    assert failed(report) == set()
    assert report.rows == {"train": 2, "dev": 1, "held_out": 0}
    assert report.groups == {"train": 2, "dev": 1, "held_out": 0}
    assert [row.number for row in read_rows(report.splits["train"].checked())] == [1, 2]
    assert report.suite_sha256 == sha256_of(SUITE)


def test_rows_keep_their_tests_which_no_suite_need_name(tmp_path: Path) -> None:
    report = checked([record(1, tests="assert f() == 1"), record(2)], tmp_path)
    assert report.passed
    kept = read_rows(report.splits["train"].checked())
    assert [row.tests for row in kept] == ["assert f() == 1", None]


def test_failing_rows_are_set_aside_with_their_number_and_the_expectation(
    tmp_path: Path,
) -> None:
    broken = [
        record(5, completion=""),
        record(6, completion="c" * (LIMIT + 1)),
        record(7, completion="\ufdfa\ufdfa"),
        record(8, completion="  \n"),
    ]
    earlier = [
        QuarantinedRow(
            number=9, id=None, reason="invalid UTF-8 (at byte 3)", excerpt=""
        )
    ]
    report = validate(
        {"train": [record(1), *broken], "dev": [record(2)], "held_out": []},
        load_suite(SUITE),
        LIMIT,
        earlier,
        tmp_path,
    )
    assert report.passed
    assert report.rows == {"train": 1, "dev": 1, "held_out": 0}
    quarantine = [
        json.loads(line)
        for line in (tmp_path / "quarantine.jsonl").read_text().splitlines()
    ]
    assert [row["number"] for row in quarantine] == [9, 5, 6, 7, 8]
    assert report.quarantined == {
        "completion_characters: expect_column_values_to_be_between": 4,
        "invalid UTF-8": 1,
    }
    result = next(
        result
        for result in report.expectations
        if result.column == "completion_characters"
    )
    assert (result.failed_rows, result.sample_row_ids) == (
        4,
        tuple(f"{number:016x}" for number in (5, 6, 7, 8)),
    )


def test_an_id_may_occur_once_a_split(tmp_path: Path) -> None:
    report = checked([record(1), record(2), record(2)], tmp_path, dev=[record(1)])
    assert failed(report) == {"expect_compound_columns_to_be_unique"}
    assert report.rows == {"train": 1, "dev": 1, "held_out": 0}


def renamed(row: Record) -> Record:
    return {
        ("answer" if name == "completion" else name): entry
        for name, entry in row.items()
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (renamed, "expect_table_columns_to_match_set"),
        (lambda row: {**row, "surprise": 1}, "expect_table_columns_to_match_set"),
        (
            lambda row: {**row, "completion": 7},
            "expect_column_values_to_be_in_type_list(completion)",
        ),
        (
            lambda row: {**row, "number": str(row["number"])},
            "expect_column_values_to_be_in_type_list(number)",
        ),
        (
            lambda row: {**row, "completion": None},
            "expect_column_values_to_not_be_null(completion)",
        ),
        (
            lambda row: {**row, "group": None},
            "expect_column_values_to_not_be_null(group)",
        ),
        (
            lambda row: {**row, "messages": "text"},
            "expect_column_values_to_not_be_null(prompt)",
        ),
    ],
)
def test_a_renamed_new_retyped_or_empty_column_fails_by_the_expectations_name(
    change: Callable[[Record], Record], named: str, tmp_path: Path
) -> None:
    report = checked([change(record(number)) for number in range(1, 4)], tmp_path)
    assert not report.passed
    assert named in failed(report)


def test_no_rows_at_all_fail(tmp_path: Path) -> None:
    report = checked([], tmp_path)
    assert not report.passed
    assert failed(report) == {"expect_table_row_count_to_be_between"}


def test_nothing_left_after_filtering_fails(tmp_path: Path) -> None:
    assert not checked([record(1, completion="")], tmp_path).passed


def test_the_data_docs_show_fields_as_text_and_are_the_same_for_the_same_data(
    tmp_path: Path,
) -> None:
    hostile = "<script>alert(1)</script>"
    rows = [
        record(1),
        record(2, id=hostile),
        record(3, completion=7, group="=cmd|' /C calc'!A0"),
        record(4, group=["<img src=x onerror=alert(2)>"]),
    ]
    checked(rows, tmp_path / "one")
    page = (tmp_path / "one" / "docs" / "index.html").read_text()
    assert hostile not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page
    checked(rows, tmp_path / "two")
    assert (tmp_path / "two" / "docs" / "index.html").read_text() == page


def unusable(folder: Path, text: str) -> str:
    path = folder / "rows.json"
    path.write_text(text)
    with pytest.raises(ParameterError) as caught:
        load_suite(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_suite_that_is_missing_or_edited_to_nonsense_fails_closed(
    tmp_path: Path,
) -> None:
    with pytest.raises(ParameterError, match="nothing passes: bring it back"):
        load_suite(tmp_path / "none.json")
    assert "nothing passes" in unusable(tmp_path, "{nonsense")
    assert "nothing passes" in unusable(
        tmp_path, '{"name": "rows", "expectations": []}'
    )
    wrong = {"type": "expect_column_values_to_not_be_null", "kwargs": {"colum": "id"}}
    assert "field required" in unusable(
        tmp_path, json.dumps({"name": "rows", "expectations": [wrong]})
    )


def test_an_expectation_that_great_expectations_would_silently_drop_is_an_error(
    tmp_path: Path,
) -> None:
    real = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}
    text = json.dumps(
        {
            "name": "rows",
            "expectations": [real, {"type": "expect_rows_to_be_nice", "kwargs": {}}],
        }
    )
    assert (
        "names expect_rows_to_be_nice, which great_expectations does not have"
        in unusable(tmp_path, text)
    )


# Expectations of the user's own.

DOCS = Path(__file__).parents[2] / "docs/how-to/own-expectation.md"


def with_expectation(folder: Path, entry: object) -> Path:
    """The suite with one more expectation."""
    document = json.loads(SUITE.read_text(encoding="utf-8"))
    document["expectations"].append(entry)
    path = folder / "rows.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_the_expectation_that_a_page_shows_sets_rows_aside_by_its_name(
    tmp_path: Path,
) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    suite = load_suite(with_expectation(tmp_path, json.loads(block)))
    rows = [record(1), record(2, completion="http://x.y"), record(3)]
    report = validate(
        {"train": rows, "dev": [], "held_out": []}, suite, 20, (), tmp_path
    )
    assert report.passed
    assert report.rows["train"] == 2
    named = "completion: expect_column_values_to_not_match_regex"
    assert report.quarantined == {named: 1}
    assert report.suite_sha256 != sha256_of(SUITE)


def test_an_expectation_about_the_table_fails_the_report_and_sets_no_row_aside(
    tmp_path: Path,
) -> None:
    mean = "expect_column_mean_to_be_between"
    limits = {"column": "completion_characters", "min_value": 5}
    suite = load_suite(with_expectation(tmp_path, {"type": mean, "kwargs": limits}))
    rows = [record(1), record(2)]
    report = validate(
        {"train": rows, "dev": [], "held_out": []}, suite, 20, (), tmp_path
    )
    assert not report.passed
    assert failed(report) == {f"{mean}(completion_characters)"}
    assert report.rows["train"] == 2
    # The mean of the page's number is one of numpy.
    assert "mean must be" in (tmp_path / "docs/index.html").read_text("utf-8")


def test_the_page_of_expectations_names_every_column() -> None:
    listed = set(re.findall(r"`(\w+)`", DOCS.read_text("utf-8").partition("| ---")[2]))
    (columns,) = [
        entry["kwargs"]["column_set"]
        for entry in json.loads(SUITE.read_text("utf-8"))["expectations"]
        if "column_set" in entry["kwargs"]
    ]
    assert set(columns) <= listed


NOT_MATCH = "expect_column_values_to_not_match_regex"
BETWEEN = "expect_column_values_to_be_between"


@pytest.mark.parametrize(
    ("kind", "arguments", "named"),
    [
        (
            NOT_MATCH,
            {"column": "completions", "regex": "x"},
            f"in {NOT_MATCH}, there is no column completions: did you mean completion",
        ),
        (NOT_MATCH, {"column": "zz", "regex": "x"}, "no column zz, only id, number"),
        (NOT_MATCH, {"column": "completion", "regex": "("}, "'(' is no regular expre"),
        (NOT_MATCH, {"column": "completion", "regex": 3}, "3 is no regular expression"),
        (NOT_MATCH, {"column": "completion"}, "regex field required"),
        (NOT_MATCH, {"column": "completion", "regex": "x", "mostly": 2}, "mostly"),
        (NOT_MATCH, {"column": "completion", "regex": "x", "wrong": 2}, "wrong extra"),
        (
            BETWEEN,
            {"column": "number", "max_value": {"$PARAMETER": "max_caracters"}},
            "there is no parameter max_caracters for a suite, only max_characters",
        ),
        (
            "expect_column_pair_values_to_be_equal",
            {"column_A": "prompt", "column_B": "answer"},
            "there is no column answer",
        ),
        (
            "expect_compound_columns_to_be_unique",
            {"column_list": ["prompt", "answer"]},
            "there is no column answer",
        ),
        ("expect_nice_rows", {"column": "prompt"}, "names expect_nice_rows, which"),
    ],
)
def test_an_expectation_that_names_what_is_not_there_is_one_sentence(
    tmp_path: Path, kind: str, arguments: dict[str, Any], named: str
) -> None:
    path = with_expectation(tmp_path, {"type": kind, "kwargs": arguments})
    with pytest.raises(ParameterError) as caught:
        load_suite(path)
    said = str(caught.value)
    assert named in said
    assert f"The expectation suite {path} " in said
    assert "\n" not in said
