"""An adapter passes only where its loss is shown to be within the margin."""

import pytest

from pipelines.code_tasks.score import CodeDifference, CodeScore, PassAt
from pipelines.code_tasks.verdict import LEAST_TASKS, decide
from pipelines.values.dataset import Interval


def _score(estimate: float, tasks: int = LEAST_TASKS) -> CodeScore:
    found = Interval(
        estimate=estimate,
        low=estimate,
        high=estimate,
    )
    return CodeScore(
        system="adapter",
        adapter_sha256=None,
        tasks=tasks,
        samples=1,
        pass_at=(PassAt(k=1, interval=found),),
        signature="",
    )


def _difference(low: float, high: float, k: int = 1) -> CodeDifference:
    return CodeDifference(
        k=k,
        system="adapter",
        other="base",
        difference=(low + high) / 2,
        low=low,
        high=high,
    )


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.05, 0.05, "passed"),
        (0.01, 0.2, "passed"),
        (-0.051, 0.05, "undecided"),
        (-0.3, -0.05, "undecided"),
        (-0.3, -0.051, "rejected"),
    ],
)
def test_the_margin_decides_by_the_bounds(
    low: float, high: float, outcome: str
) -> None:
    found, _ = decide([_score(0.4)], [_difference(low, high)], 0.05)
    assert found == outcome


def test_every_k_has_to_pass() -> None:
    differences = [_difference(0, 0.1), _difference(-0.2, -0.1, k=10)]
    outcome, text = decide([_score(0.4)], differences, 0.05)
    assert outcome == "rejected"
    assert text == "worse by at least 0.100 at pass@10, over 0.05"


def test_the_worst_bound_is_named() -> None:
    differences = [_difference(-0.01, 0.1), _difference(-0.04, 0.1, k=10)]
    _, text = decide([_score(0.4)], differences, 0.05)
    assert text == "worse by at most 0.040 at pass@10, within 0.05"


def test_two_zeros_are_no_evidence() -> None:
    outcome, text = decide([_score(0.0), _score(0.0)], [_difference(0, 0)], 0.05)
    assert outcome == "undecided"
    assert text == "no system solves a task, so nothing can be lost"


def test_a_few_tasks_are_no_evidence() -> None:
    scores = [_score(0.5), _score(0.5, tasks=LEAST_TASKS - 1)]
    outcome, text = decide(scores, [_difference(0, 0)], 0.05)
    assert outcome == "undecided"
    assert text == "9 tasks are too few to compare: at least 10 are needed"


def test_nothing_to_compare_with_is_no_evidence() -> None:
    outcome, text = decide([_score(0.5)], [], 0.05)
    assert (outcome, text) == ("undecided", "there is nothing to compare with")
