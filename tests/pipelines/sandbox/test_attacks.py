"""Every attack fails its tests, and leaves nothing behind."""

import tempfile
from pathlib import Path

import psutil
import pytest

from pipelines.sandbox.box import Limits
from pipelines.sandbox.judge import Outcome
from pipelines.sandbox.run import Trial, run_trial, run_trials
from tests.support.attacks import ATTACKS, ENDLESS, LEFT_BEHIND
from tests.support.waiting import wait_until

TESTS = """
from solution import square
assert all([square(2) == 4])
assert len([square(2)]) == 1
"""


@pytest.fixture(scope="module")
def outcomes(boxes: None) -> dict[str, Outcome]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_SECRET", "1")
        trials = [Trial(code=code, tests=TESTS) for code in ATTACKS.values()]
        found = run_trials(trials, Limits(seconds=60))
    return dict(zip(ATTACKS, found, strict=True))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails_its_tests(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[name]
    assert not outcome.passed
    # It was judged, and not merely slow.
    assert outcome.reason != "it did not end in time"


@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_without_an_end_is_ended(boxes: None, name: str) -> None:
    trial = Trial(code=ENDLESS[name], tests=TESTS)
    outcome = run_trial(trial, Limits(seconds=1))
    assert not outcome.passed
    assert outcome.reason in {
        "it did not end in time",
        "its tests ended without a verdict",
    }


def test_no_process_and_no_file_is_left_behind(outcomes: dict[str, Outcome]) -> None:
    assert outcomes
    wait_until(lambda: not _is_running(LEFT_BEHIND))
    tmp = Path(tempfile.gettempdir())
    assert not Path("/usr/bin/assay-was-here").exists()
    assert not (tmp / "link").is_symlink()
    assert not (tmp / "fill0").exists()


def _is_running(argument: str) -> bool:
    processes = psutil.process_iter(["cmdline"])
    return any(argument in (process.info["cmdline"] or ()) for process in processes)


def test_an_honest_answer_passes(boxes: None) -> None:
    outcome = run_trial(Trial(code="def square(x):\n    return x * x", tests=TESTS))
    assert outcome == Outcome(passed=True, reason="passed")


def test_a_wrong_answer_is_told_where_it_failed(boxes: None) -> None:
    outcome = run_trial(Trial(code="def square(x):\n    return x + 1", tests=TESTS))
    assert outcome == Outcome(
        passed=False, reason="line 3 of the tests: AssertionError"
    )
