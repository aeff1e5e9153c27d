"""kill -9 of the run, anywhere.

The same command goes on, no training stays behind, and one version exists.
"""

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from core.project import Project
from flows.run.dead_runs import end_dead_runs
from pipelines.__main__ import STAGES
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    lines_of,
    make_checkout,
    run_arguments,
    stage_lines,
)
from tests.support.processes import children_of, words_of
from tests.support.waiting import SECONDS_AT_MOST

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.ci

STEPS = 160


@dataclass(frozen=True)
class Story:
    """One command.

    Killed between two stages, killed in training, then given twice at the same time.
    """

    told_before_the_first_kill: list[str]
    versions_after_the_first_kill: int
    after_the_first_kill: tuple[str, tuple[str, ...], str]
    steps_kept_when_training_had_ended: list[int]
    both: tuple[CommandResult, CommandResult]
    adapter: dict[str, Any]
    checkout: Checkout


@pytest.fixture(scope="module")
def story(
    judged: Journey,
    cloned: Path,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    checkout = make_checkout(
        tmp_path_factory.mktemp("killed") / "assay", cloned, empty_mlflow
    )
    shutil.copytree(judged.checkout.home / "cache", checkout.home / "cache")
    arguments = run_arguments(judged.data, judged.base, "--set", "train.seed=1")

    told = kill_after(checkout.start(*arguments), "bias")
    versions = len(checkout.versions())  # counted now: the next run makes one
    after = (
        status(checkout),
        end_dead_runs(checkout.store, Project(checkout.root, checkout.home)),
        status(checkout),
    )
    steps = kill_in_training(checkout, checkout.start(*arguments))
    running = (checkout.start(*arguments), checkout.start(*arguments))
    both = [
        CommandResult(process.returncode, out, err)
        for process in running
        for out, err in [process.communicate(timeout=SECONDS_AT_MOST)]
    ]
    adapter = next(
        result.last["scorecard"]["adapter"] for result in both if result.code == 0
    )
    return Story(told, versions, after, steps, (both[0], both[1]), adapter, checkout)


def kill_after(process: "subprocess.Popen[str]", stage: str) -> list[str]:
    """Read what the run tells until it has told this stage, then kill it."""
    told = []
    for line in stage_lines(process):
        told.append(line)
        if line.split()[0] == stage:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS_AT_MOST)
    return told


def kill_in_training(checkout: Checkout, process: "subprocess.Popen[str]") -> list[int]:
    """Kill the run once a checkpoint is whole.

    Once its training has ended too, give the steps that have a checkpoint.
    """
    end = time.monotonic() + SECONDS_AT_MOST
    while not list((checkout.home / "scratch").glob("*/checkpoint-*/digests.json")):
        assert time.monotonic() < end, "no checkpoint was written"
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    training = [
        child
        for child in children_of(process.pid, recursive=True)
        if "fine_tune" in words_of(child)
    ]
    assert training
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS_AT_MOST)
    _ended, alive = psutil.wait_procs(training, timeout=SECONDS_AT_MOST)
    assert not alive
    return [
        int(path.name.removeprefix("checkpoint-"))
        for path in (checkout.home / "scratch").glob("*/checkpoint-*")
    ]


def status(checkout: Checkout) -> str:
    (run,) = checkout.runs()
    return str(run.info.status)


def test_a_run_killed_between_stages_leaves_no_version(story: Story) -> None:
    assert story.told_before_the_first_kill[-1].split()[0] == "bias"
    assert story.versions_after_the_first_kill == 0


def test_a_run_that_was_killed_does_not_stay_running_for_ever(story: Story) -> None:
    before, (sentence,), after = story.after_the_first_kill
    assert (before, after) == ("RUNNING", "KILLED")
    assert "is KILLED in MLflow: its process had ended" in sentence


def test_training_does_not_go_on_after_the_run_that_was_killed(story: Story) -> None:
    assert story.steps_kept_when_training_had_ended
    assert STEPS not in story.steps_kept_when_training_had_ended


def test_killed_in_training_the_next_run_goes_on_from_a_checkpoint(
    story: Story,
) -> None:
    assert story.adapter["resumed_from"], story.both[0].out + story.both[1].out
    assert story.adapter["steps"] == STEPS


def test_of_two_equal_runs_one_trains_and_the_other_waits_for_it(story: Story) -> None:
    told = [line for result in story.both for line in lines_of(result, "fine_tune")]
    assert sum("cached" not in line for line in told) == 1, told
    assert any("waited for another run's" in result.out for result in story.both)


def test_after_all_of_that_there_is_one_version_and_one_run(story: Story) -> None:
    assert [result.code for result in story.both] == [0, 0], [
        result.err for result in story.both
    ]
    assert {result.last["version"] for result in story.both} == {"1"}
    assert len(story.checkout.versions("letters-tiny")) == 1
    assert len(story.checkout.runs()) == 1


def test_no_worktree_of_a_killed_run_is_left(story: Story) -> None:
    assert [
        path for path in (story.checkout.home / "worktrees").glob("*") if path.is_dir()
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_killed_after_any_stage_the_same_command_makes_one_version(
    checkout: Checkout, judged: Journey, stage: str
) -> None:
    arguments = run_arguments(judged.data, judged.base)
    kill_after(checkout.start(*arguments), stage)
    result = checkout.assay(*arguments)
    assert result.code == 0, result.out + result.err
    assert all(
        "cached" in line
        for before in STAGES[: STAGES.index(stage) + 1]
        for line in lines_of(result, before)
    )
    assert (result.last["version"], len(checkout.versions())) == ("1", 1)
