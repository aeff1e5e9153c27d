"""Sensitive features: groups are compared, measures are refused, near-equal groups are said."""

from datetime import date
from typing import Any

import pytest

from core.errors import NoSuchColumn, ParameterError
from pipelines.rows.near_groups import find_near_groups
from pipelines.rows.reading import FileRows, read_rows_of
from tests.support.row_files import DATA as PLAIN

DATA = PLAIN.model_copy(update={"sensitive_feature": "age"})


def read(values: list[Any]) -> FileRows:
    records = [
        {"prompt": f"p{number}", "completion": "c", "age": value}
        for number, value in enumerate(values)
    ]
    return read_rows_of(enumerate(records, 1), DATA, "my.jsonl")


def notes(values: list[Any]) -> tuple[str, ...]:
    return read(values).describe().notes


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            [18 + number / 4 for number in range(240)],
            (
                "data.sensitive_feature age is a number with 240 distinct values in 240 rows, such "
                "as 18.25: bin it into groups, such as 18-34, before the run."
            ),
        ),
        # As CSV holds it, with the decimal comma of half of Europe, and with gaps.
        (
            [f"{number}.5" for number in range(20)] * 4,
            "a number with 20 distinct values",
        ),
        (
            [f"{number},5" for number in range(20)] * 4,
            "a number with 20 distinct values",
        ),
        (
            [34.5, None, "nan", 20, 30] * 10,
            "a number with 3 distinct values in 30 rows",
        ),
        ([*range(18, 80)] * 3, "a number with 62 distinct values in 186 rows"),
        ([*map(str, range(13))] * 2, "a number with 13 distinct values in 26 rows"),
        ([*range(13)] * 19, "a number with 13 distinct values in 247 rows"),
        ([0] * 117 + [*range(1, 13)], "a number with 13 distinct values in 129 rows"),
        ([0.5] + [1] * 19, "a number with 2 distinct values in 20 rows"),
        # One large group makes no group of the others.
        ([0] * 30 + [*range(1, 60)], "a number with 60 distinct values in 89 rows"),
        ([float(2**60)] * 5, "a number with 1 distinct value in 5 rows"),
        ([date(2020, 1, 1)] * 5, "age is a date with 1 distinct value in 5 rows"),
        (
            [f"2020-01-{day:02}" for day in range(1, 29)],
            (
                "age is a date with 28 distinct values in 28 rows, such as 2020-01-01: bin it into "
                "groups, such as 2020-2024, before the run."
            ),
        ),
        ([f"{day}.1.2020" for day in range(1, 29)], "age is a date with 28"),
        # With a unit, as people write them.
        ([f"{age} years" for age in range(18, 78)], "a number with 60 distinct values"),
        ([f"{age}y" for age in range(18, 78)], "a number with 60 distinct values"),
        ([f"{pay}k" for pay in range(20, 80)], "a number with 60 distinct values"),
        ([f"€{pay}" for pay in range(1034, 1094)], "a number with 60 distinct values"),
        ([f"EUR {pay}" for pay in range(30, 90)], "a number with 60 distinct values"),
        ([f"{share}%" for share in range(30, 90)], "a number with 60 distinct values"),
        ([f"1 0{share},5" for share in range(30, 90)], "a number with 60 distinct"),
        ([f"1,0{share}.5" for share in range(30, 90)], "a number with 60 distinct"),
        ([f"{day} March 1980" for day in range(1, 29)], "age is a date with 28"),
        ([f"March {day}, 1980" for day in range(1, 29)], "age is a date with 28"),
        ([f"{day}. März 1980" for day in range(1, 29)], "age is a date with 28"),
        ([f"03/{day:02}/1980" for day in range(1, 29)], "age is a date with 28"),
        # Names and addresses.
        (
            [f"{name}@example.org" for name in range(60)],
            (
                "age has 60 distinct texts in 60 rows, such as 0@example.org: name a column of "
                "groups, each of 5 rows or more."
            ),
        ),
        ([*(f"n {number}" for number in range(40)), *["n 1"] * 3], "age has 40"),
    ],
)
def test_a_measure_is_one_error_that_says_to_bin_it(
    values: list[Any], said: str
) -> None:
    with pytest.raises(ParameterError) as raised:
        read(values)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [
        [*range(12)] * 2,
        # Ten and more rows of each, and groups that can be compared.
        [*range(13)] * 20,
        [0] * 118 + [*range(1, 13)],
        ["18-34", "35-60"] * 20,
        ["2020-01-01", "2021-01-01"] * 20,
        [True, False, None] * 20,
        [1.0, 2.0, float("nan")] * 20,
        [f"name {number}" for number in range(31)] * 2,
        [*(f"name {number}" for number in range(60)), *["name 1"] * 4],
        [f"name {number}" for number in range(12)],
        [0.5, 1.5, 2.5] * 100,
        ["0.5", "1.5", "2.5"] * 100,
        ["grade 1", "grade 2"] * 20,
        ["2 years", "3 years"] * 20,
        [],
    ],
)
def test_groups_are_no_measure(values: list[Any]) -> None:
    file = read(values)
    assert len(file.rows) == len(values)


@pytest.mark.parametrize(
    ("values", "odd"),
    [
        ([1] * 20 + [0.5], 1),
        # Half of the rows say that these are texts.
        (["young", 34.5] * 10, 10),
        (["young", date(2020, 1, 1)] * 10, 10),
    ],
)
def test_odd_values_among_groups_set_their_own_rows_aside(
    values: list[Any], odd: int
) -> None:
    file = read(values)
    assert len(file.quarantine) == odd
    assert all(row.reason.endswith(", not a label") for row in file.quarantine)


def test_a_feature_that_only_a_late_record_has_is_a_column_and_a_missing_one_is_not() -> (
    None
):
    records = [{"prompt": f"p{number}", "completion": "c"} for number in range(150)]
    with pytest.raises(NoSuchColumn, match="has no column age; it has completion, pr"):
        read_rows_of(enumerate(records, 1), DATA, "my.jsonl")
    records[140]["AGE"] = "young"
    file = read_rows_of(enumerate(records, 1), DATA, "my.jsonl")
    assert [row.feature for row in file.rows].count("young") == 1


def test_texts_that_mean_no_value_are_pointed_out() -> None:
    assert notes(["a", "nan", "nan", "N/A", "", None, "Unknown", "-"] * 10) == (
        "20 rows without a value for age: in no group",
        (
            "10 rows with the text '-' as age: it is a group of its own; leave it empty where no "
            "value is known"
        ),
        (
            "10 rows with the text 'N/A' as age: it is a group of its own; leave it empty where no "
            "value is known"
        ),
        (
            "10 rows with the text 'Unknown' as age: it is a group of its own; leave it empty "
            "where no value is known"
        ),
        (
            "20 rows with the text 'nan' as age: it is a group of its own; leave it empty where no "
            "value is known"
        ),
    )


def test_groups_that_are_probably_one_are_said_and_not_merged() -> None:
    values = ["F", "f", "female", "Female ", "M", "male", "x-y", "x y", "other"]
    file = read(values)
    assert len({row.feature for row in file.rows}) == 9
    assert file.describe().notes == (
        (
            "age: F (1), Female (1), f (1), female (1) are probably one group, and are compared "
            "as 4: write them in one way"
        ),
        (
            "age: M (1), male (1) are probably one group, and are compared as 2: write them in "
            "one way"
        ),
        (
            "age: x y (1), x-y (1) are probably one group, and are compared as 2: write them in "
            "one way"
        ),
    )


def test_spellings_that_count_as_one_group_are_said() -> None:
    assert notes(["caf\u00e9", "cafe\u0301", "caf\u00e9 ", "tea"]) == (
        (
            "age: caf\u00e9 is written in 3 ways that differ in outer spaces or Unicode form: "
            "counted as one group"
        ),
    )


@pytest.mark.parametrize(
    "labels",
    [
        ["M", "male", "man"],
        ["<30", ">30"],
        ["18-34", "1834"],
        ["-1", "1"],
        ["A", "AB", "B"],
        ["-", "_"],
        ["a", "a"],
        [],
    ],
)
def test_labels_that_differ_in_what_they_say_are_several_groups(
    labels: list[str],
) -> None:
    assert find_near_groups(labels) == []


def test_widths_and_dashes_make_no_other_group() -> None:
    assert find_near_groups(["\uff26", "F"]) == [["F", "\uff26"]]
    assert find_near_groups(["18\u201334", "18-34"]) == [["18-34", "18\u201334"]]
