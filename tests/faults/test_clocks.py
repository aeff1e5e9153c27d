"""The clock set back or forward an hour.

Who holds something holds it, because the kernel says so and not the clock.
"""

import time
from pathlib import Path

import pytest

from core.errors import AlreadyTraining, OperationError
from core.locks import alone, share_home
from core.project import Project
from flows.run.request import TrainRequest
from flows.run.training_lock import training_turn
from flows.run.workspace import open_workspace, remove_dead_worktrees
from tests.support.journey import git

HOUR = 3600.0


@pytest.fixture(params=[-HOUR, HOUR], ids=["back", "forward"])
def shift(request: pytest.FixtureRequest) -> float:
    return float(request.param)


def set_clock(monkeypatch: pytest.MonkeyPatch, shift: float) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + shift)


def test_a_model_in_training_is_not_trained_twice(
    shift: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with training_turn(tmp_path, "letters"):
        set_clock(monkeypatch, shift)
        with (
            pytest.raises(AlreadyTraining),
            training_turn(tmp_path, "letters", waits=False),
        ):
            pass
    with training_turn(tmp_path, "letters", waits=False):
        pass


def test_the_worktree_of_a_live_run_is_left(
    shift: float, cloned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "clone", "--quiet", str(cloned), "assay")
    project = Project(root=tmp_path / "assay", home=tmp_path / "assay/.assay")
    with open_workspace(project, TrainRequest()) as workspace:
        set_clock(monkeypatch, shift)
        remove_dead_worktrees(project)
        assert workspace.root.is_dir()


def test_nothing_is_cleared_away_beside_a_run(
    shift: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with share_home(tmp_path):
        set_clock(monkeypatch, shift)
        with pytest.raises(OperationError), alone(tmp_path, patience=0.2):
            pass
