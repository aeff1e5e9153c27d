"""Only the whole token is a pass, and boxes that did not start judge nothing."""

import pytest

from core.errors import SandboxUnavailable
from pipelines.sandbox.boxed import BEGUN
from pipelines.sandbox.judge import judge

TOKEN = "0123456789abcdef"  # noqa: S105


def _judge(verdict: str, *, was_in_time: bool = True) -> tuple[bool, str]:
    said = BEGUN + verdict.encode()
    outcome = judge(said, TOKEN, was_in_time=was_in_time, why="")
    return outcome.passed, outcome.reason


def test_the_token_passes() -> None:
    assert _judge(TOKEN) == (True, "passed")


@pytest.mark.parametrize(
    "verdict", ["", "passed", TOKEN[:-1], f"{TOKEN}\n", f" {TOKEN}", TOKEN * 2]
)
def test_anything_but_the_whole_token_fails(verdict: str) -> None:
    assert _judge(verdict) == (False, "its tests ended without a verdict")


def test_a_token_that_comes_too_late_fails() -> None:
    found = _judge(TOKEN, was_in_time=False)
    assert found == (False, "it did not end in time")


def test_the_reason_of_a_failure_is_one_plain_line() -> None:
    passed, reason = _judge("failed: line 1:\x1b[2J\n\tNameError " + "x" * 900)
    assert not passed
    assert reason.startswith("line 1: [2J NameError xxx")
    assert len(reason) == 200


@pytest.mark.parametrize("said", [b"", b"begun", TOKEN.encode(), b" begun\n"])
def test_boxes_that_did_not_start_judge_nothing(said: bytes) -> None:
    with pytest.raises(SandboxUnavailable, match="did not start: no such option"):
        judge(said, TOKEN, was_in_time=True, why="no such option")


def test_a_box_that_dies_without_a_word_says_so() -> None:
    with pytest.raises(SandboxUnavailable, match="it says nothing"):
        judge(b"", TOKEN, was_in_time=False, why="")
