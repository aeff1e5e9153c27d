"""The metric `unit_tests`: answers pass or fail the tests of their prompt."""

from pathlib import Path

import pytest

from core.errors import SandboxUnavailable, UnusableRow
from pipelines.metrics import ScoredRow, metric_named
from pipelines.metrics.unit_tests import _try, check_all_tests, check_tests
from pipelines.rows.reading import read_rows_of
from pipelines.sandbox.self_check import check_sandbox
from pipelines.scoring.evidence_file import (
    EvidenceRow,
    evidence_of,
    read_evidence,
    write_evidence,
)
from pipelines.scoring.scores import with_statistics
from pipelines.values.dataset import Prompt, Row, group_prompts
from pipelines.values.params import load_params
from registry.release.own_metrics import find_metrics

ADD = "def add(a, b):\n    return a + b"
TESTS = "assert add(1, 2) == 3"


@pytest.fixture(autouse=True)
def boxes() -> None:
    try:
        check_sandbox()
    except SandboxUnavailable as error:
        pytest.skip(str(error))


def _row(prediction: str, tests: tuple[str, ...] = (TESTS,)) -> ScoredRow:
    return ScoredRow(
        prompt_id="p",
        prediction=prediction,
        references=(ADD,),
        tests=tests,
    )


def _count(row: ScoredRow) -> tuple[float, ...]:
    return metric_named("unit_tests").row_statistics(row)


def test_an_answer_counts_where_it_passes_every_test() -> None:
    tests = (TESTS, "assert add('a', 'b') == 'ab'")
    assert _count(_row(ADD, tests)) == (1.0, 1.0)
    assert _count(_row(f"```python\n{ADD}\n```", tests)) == (1.0, 1.0)
    only_numbers = "def add(a, b):\n    return int(a) + int(b)"
    assert _count(_row(only_numbers)) == (1.0, 1.0)
    assert _count(_row(only_numbers, tests)) == (0.0, 1.0)
    assert _count(_row("")) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ((), "Prompt p has no tests"),
        (("assert add(1, 2) == 4",), "reference of prompt p fails its tests"),
        (("assert add(1, 2) == ",), "SyntaxError"),
        ((TESTS, "assert True"), "An empty answer passes the tests of prompt p"),
        (("",), "An empty answer passes"),
    ],
)
def test_tests_that_say_nothing_score_nothing(
    tests: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UnusableRow, match=said):
        _count(_row(ADD, tests))


def test_the_first_prompt_with_bad_tests_is_named() -> None:
    prompts = [
        Prompt(id=name, messages=(), references=(ADD,), group=name, tests=(tests,))
        for name, tests in (("one", TESTS), ("two", "assert 0"), ("three", ""))
    ]
    with pytest.raises(UnusableRow, match="prompt two"):
        check_all_tests(prompts)
    check_all_tests(prompts[:1])


def test_no_answer_is_scored_without_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise SandboxUnavailable("There is no bubblewrap here.")

    _try.cache_clear()
    monkeypatch.setattr("pipelines.metrics.unit_tests.check_sandbox", refuse)
    with pytest.raises(SandboxUnavailable):
        check_tests(_row(ADD))


def _evidence_row(row: ScoredRow) -> EvidenceRow:
    return EvidenceRow(
        system="adapter",
        group=row.prompt_id,
        feature=None,
        row=row,
        statistics={},
        control_prompt_id=None,
        control={},
    )


def test_evidence_keeps_the_tests(tmp_path: Path) -> None:
    rows = [_evidence_row(_row(ADD))]
    evidence = with_statistics(rows, [metric_named("unit_tests")])
    path = tmp_path / "evidence.parquet"
    write_evidence(path, evidence)
    assert read_evidence(path) == evidence
    assert evidence.rows["adapter"][0].row.tests == (TESTS,)


def test_evidence_is_not_counted_again_without_boxes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [_evidence_row(_row(ADD))]
    evidence = with_statistics(rows, [metric_named("unit_tests")])
    assert find_metrics(evidence, rows, None).differences == ()

    def refuse() -> None:
        raise SandboxUnavailable("There is no bubblewrap here.")

    monkeypatch.setattr("registry.release.own_metrics.check_sandbox", refuse)
    found = find_metrics(evidence, rows, None)
    assert found.metrics == ()
    assert found.differences == (
        "evidence.unit_tests: not counted again: There is no bubblewrap here.",
    )


def test_systems_with_other_tests_are_not_compared() -> None:
    from core.errors import IncompleteEvidence

    own = _evidence_row(_row(ADD))
    easier = _evidence_row(_row(ADD, ("assert add",)))
    base = easier.model_copy(update={"system": "base"})
    with pytest.raises(IncompleteEvidence, match="not about the same prompts"):
        evidence_of([own, base])


def _read(record: dict[str, object], column: str | None = "tests") -> list[Row]:
    data = load_params().data.model_copy(update={"tests_column": column})
    records = [(1, {"prompt": "add", "completion": ADD, **record})]
    return read_rows_of(records, data, "rows.jsonl").rows


def test_a_row_takes_its_tests_from_the_column() -> None:
    (row,) = _read({"tests": TESTS})
    assert row.tests == TESTS
    (prompt,) = group_prompts([row, row.model_copy(update={"tests": "assert add"})])
    assert prompt.tests == (TESTS, "assert add")
    (row,) = _read({"tests": [TESTS, "assert add"]})
    assert row.tests == f"{TESTS}\nassert add"
    (row,) = _read({"tests": TESTS}, column=None)
    # So that rows without tests have the bytes that they always had.
    assert "tests" not in row.model_dump(mode="json")
    (prompt,) = group_prompts([row])
    assert "tests" not in prompt.model_dump(mode="json")


@pytest.mark.parametrize("tests", [None, "", "  ", [], [1], {}, 3])
def test_a_row_without_usable_tests_is_set_aside(tests: object) -> None:
    assert _read({"tests": tests}) == []
