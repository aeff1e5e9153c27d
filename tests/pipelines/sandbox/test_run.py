"""How tests reach an answer."""

import pytest

from pipelines.sandbox.judge import Outcome
from pipelines.sandbox.run import Trial, run_trial, run_trials

STACK = """
LIMIT = 3
def push(stack, item):
    if len(stack) >= LIMIT:
        raise ValueError("full")
    return [*stack, item]
"""


def _reason(tests: str, code: str = STACK) -> str:
    return run_trial(Trial(code=code, tests=tests)).reason


@pytest.mark.parametrize(
    "tests",
    [
        # As MBPP writes them: names without an import.
        "assert push([], 1) == [1]",
        "from solution import push\nassert push([], 1) == [1]",
        "import solution\nassert solution.LIMIT == 3",
        "def test_push():\n    assert push([1], item=2) == [1, 2]",
        "try:\n    push([1, 2, 3], 4)\nexcept ValueError:\n    pass\nelse:\n    assert False",
        "def twice(f, x):\n    return f(f([], x), x)\nassert twice(push, 1) == [1, 1]",
    ],
)
def test_tests_reach_the_answer(boxes: None, tests: str) -> None:
    assert _reason(tests) == "passed"


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        (
            "\nassert push([], 1) == [2]",
            "line 2 of the tests: AssertionError",
        ),
        (
            "def test_push():\n    assert push([], 1) == [2]",
            "line 2 of the tests: AssertionError",
        ),
        (
            "push([1, 2, 3], 4)",
            "line 1 of the tests: ValueError",
        ),
        (
            "pop([])",
            "line 1 of the tests: NameError name 'pop' is not defined",
        ),
        (
            "push(print, 1)",
            "line 1 of the tests: Unsendable builtin_function_or_method is no plain data",
        ),
        ("import os\nos._exit(0)", "its tests ended without a verdict"),
    ],
)
def test_a_failure_names_its_line(boxes: None, tests: str, reason: str) -> None:
    assert _reason(tests) == reason


def test_tests_that_are_no_python_pass_nothing(boxes: None) -> None:
    assert _reason("assert (").startswith("line 1 of the tests: SyntaxError")


def test_an_answer_that_is_no_python_fails(boxes: None) -> None:
    reason = _reason("assert True", code="Sure! Here is the function:")
    assert reason == "AnswerEnded the answer raised SyntaxError"


def test_many_are_judged_in_their_order(boxes: None) -> None:
    trials = [
        Trial(code=f"def f():\n    return {n}", tests="assert f() % 2 == 0")
        for n in range(4)
    ]
    outcomes = run_trials(trials)
    assert [outcome.passed for outcome in outcomes] == [True, False, True, False]
    assert outcomes[0] == Outcome(passed=True, reason="passed")
