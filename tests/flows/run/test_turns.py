"""Runs of one model, and stages of one work, take turns.

A person is told when the waiting begins.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event, Thread

import pytest

from core.project import Project
from flows.run.reproduce import _stage_turn
from flows.run.request import TrainRequest
from flows.run.training_lock import training_turn
from flows.run.workspace import open_workspace
from tests.support.journey import Checkout, git, invoke
from tests.support.waiting import wait_until


class Waiting:
    """Another run, in a thread, that wants the same turn."""

    def __init__(
        self, turn: AbstractContextManager[object], capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.turn, self.capsys = turn, capsys
        self.said, self.had = "", Event()
        self.thread = Thread(target=self._have, daemon=True)
        self.thread.start()

    def _have(self) -> None:
        with self.turn:
            self.had.set()

    def has_said(self, text: str) -> bool:
        self.said += self.capsys.readouterr().out
        return text in self.said


def test_a_run_that_waits_for_its_turn_says_so_when_it_begins_to_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with training_turn(tmp_path, "letters"):
        other = Waiting(training_turn(tmp_path, "letters"), capsys)
        wait_until(
            lambda: other.has_said(
                "  (waiting for another run's end: it is training letters)\n"
            )
        )
        assert not other.had.is_set()
    other.thread.join()
    assert other.has_said("  (waited for another run's end: it was training letters)\n")


def test_a_slip_in_a_parameter_is_said_before_the_wait_for_another_run(
    cloned: Path, tmp_path: Path
) -> None:
    checkout = Checkout(cloned, {"ASSAY_HOME": str(tmp_path / "home")})
    with training_turn(tmp_path / "home", "letters"):
        done = invoke(checkout, "run", "--model", "letters", "--set", "lora.rank=32")
    assert (done.code, done.out) == (1, "")
    assert "There is no parameter lora.rank" in done.err


def test_a_stage_that_waits_for_another_runs_says_so_when_it_begins_to_wait(
    cloned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git(tmp_path, "clone", "--quiet", str(cloned), "assay")
    project = Project(root=tmp_path / "assay", home=tmp_path / "assay/.assay")
    with open_workspace(project, TrainRequest()) as workspace:
        with _stage_turn(workspace, "collect") as waited:
            assert not waited
            other = Waiting(_stage_turn(workspace, "collect"), capsys)
            wait_until(
                lambda: other.has_said(
                    "  collect           waiting for another run that does the same work\n"
                )
            )
            assert not other.had.is_set()
        other.thread.join()
