"""A machine that is taken away, or out of memory, in the middle of training.

What was done is kept, and nothing stays behind.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from filelock import FileLock

from core.errors import RunStopped
from core.stopping import on_sigterm
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    forget_training,
    make_checkout,
    run_arguments,
    wait_for_end,
)
from tests.support.processes import children_of, words_of
from tests.support.waiting import SECONDS_AT_MOST
from tests.support.workshop import Workshop, params

if TYPE_CHECKING:
    import subprocess

STEPS = 160


@dataclass(frozen=True)
class Story:
    """The same command.

    Told to stop in training, then its training killed, as where memory ran out.
    """

    stopped: CommandResult
    kept: list[int]
    after_stop: list[str]
    killed: CommandResult
    resumed: str
    after_kill: list[str]
    flow_states: list[str]
    checkout: Checkout
    arguments: list[str | Path]


@pytest.fixture(scope="module")
def story(
    judged: Journey,
    cloned: Path,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    checkout = make_checkout(
        tmp_path_factory.mktemp("stopped") / "assay", cloned, empty_mlflow
    )
    shutil.copytree(judged.checkout.home / "cache", checkout.home / "cache")
    forget_training(checkout.home / "cache")
    arguments = run_arguments(judged.data, judged.base, "--model", "stopped")

    process = checkout.start(*arguments)
    training_of(process, lambda: progress(checkout) > 20)
    process.send_signal(signal.SIGTERM)
    stopped = wait_for_end(process)
    kept, after_stop = steps_kept(checkout), statuses(checkout)

    # As where nobody logged in, in cron or a container: DVC then takes a shell that has a word of
    # its own for what was killed.
    process = checkout.start(*arguments, SHELL="/bin/sh")
    training_of(process, lambda: progress(checkout) > max(kept, default=STEPS)).kill()
    killed = wait_for_end(process)
    (resumed,) = (
        path.read_text() for path in (checkout.home / "scratch").glob("*/resumed.json")
    )
    return Story(
        stopped,
        kept,
        after_stop,
        killed,
        resumed,
        statuses(checkout),
        flow_states(),
        checkout,
        arguments,
    )


def training_of(
    process: "subprocess.Popen[str]", is_so: Callable[[], bool]
) -> psutil.Process:
    """The run's training process, once it is so."""
    end = time.monotonic() + SECONDS_AT_MOST
    while not is_so():
        assert time.monotonic() < end, "training did not come so far"
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    return next(
        child
        for child in children_of(process.pid, recursive=True)
        if "fine_tune" in words_of(child)
    )


def progress(checkout: Checkout) -> int:
    """The step that the training of the run that goes on has told last."""
    lines = [
        path.read_text().splitlines()
        for path in (checkout.home / "worktrees").glob(
            "*/data/fine_tune/progress.jsonl"
        )
    ]
    told = [line for found in lines for line in found if line.endswith("}")]
    return int(told[-1].split('"step": ')[1].split(",")[0]) if told else 0


def steps_kept(checkout: Checkout) -> list[int]:
    (scratch,) = (
        path for path in (checkout.home / "scratch").iterdir() if path.is_dir()
    )
    return sorted(
        int(path.name.removeprefix("checkpoint-"))
        for path in scratch.glob("checkpoint-*")
    )


def statuses(checkout: Checkout) -> list[str]:
    return [run.info.status for run in checkout.runs()]


def flow_states() -> list[str]:
    """Of the two last trainings of this model, the newest first.

    The server is that of all tests: other trainings and deployments ran there, too, some of them
    under another clock, and hundreds of runs of schedules are yet to come.
    """
    told: list[tuple[str, str]] = []
    while page := flow_runs(offset=len(told)):
        told += page
    return [state for state, parameters in told if '"stopped"' in parameters][:2]


def flow_runs(offset: int) -> list[tuple[str, str]]:
    """State and parameters of up to 200 runs, the one that began last first."""
    # Not Prefect's own client: it keeps the address that was set when the process first imported
    # it, which may have been before the server of the tests began.
    answer = httpx.post(
        f"{os.environ['PREFECT_API_URL']}/flow_runs/filter",
        json={"sort": "START_TIME_DESC", "limit": 200, "offset": offset},
        timeout=SECONDS_AT_MOST,
    )
    answer.raise_for_status()
    return [
        (run["state"]["name"], json.dumps(run["parameters"])) for run in answer.json()
    ]


@pytest.mark.ci
def test_a_run_that_is_told_to_stop_keeps_a_checkpoint_and_says_that_it_can_go_on(
    story: Story,
) -> None:
    assert story.stopped.code == os.EX_TEMPFAIL, story.stopped.out + story.stopped.err
    assert story.kept[-1] < STEPS
    assert f"kept a checkpoint of step {story.kept[-1]} of {STEPS}" in story.stopped.out
    (line,) = story.stopped.err.strip().splitlines()
    assert line.startswith("assay: The run was told to stop.")


@pytest.mark.ci
def test_the_next_run_goes_on_from_there(story: Story) -> None:
    assert story.resumed == f"[{story.kept[-1]}]"


@pytest.mark.ci
def test_a_training_that_is_killed_ends_its_run_with_one_sentence(story: Story) -> None:
    assert story.killed.code == 1
    (line,) = story.killed.err.strip().splitlines()
    assert line.startswith(
        "assay: Stage fine_tune was killed, as a machine does that has no memory left."
    )


@pytest.mark.ci
def test_no_run_is_left_running(story: Story) -> None:
    assert (story.after_stop, story.after_kill) == (["KILLED"], ["FAILED"])
    assert story.flow_states == ["Failed", "Crashed"]


@pytest.mark.ci
def test_no_lease_and_no_worktree_are_left(story: Story) -> None:
    leases = list((story.checkout.home / "leases").glob("*.lock"))
    assert leases
    for path in leases:
        FileLock(path).acquire(timeout=0)
    assert [
        path for path in (story.checkout.home / "worktrees").iterdir() if path.is_dir()
    ] == []


@pytest.mark.slow
def test_after_all_of_that_the_same_command_ends_as_if_nothing_had_been(
    story: Story, judged: Journey
) -> None:
    result = story.checkout.assay(*story.arguments)
    assert result.code == 0, result.out + result.err
    assert len(result.last["scorecard"]["adapter"]["resumed_from"]) == 2
    assert (
        result.last["scorecard"]["adapter"]["files"]
        == judged.result.last["scorecard"]["adapter"]["files"]
    )
    assert len(story.checkout.runs()) == 1


@pytest.mark.parametrize("step", [3, 4])
def test_a_training_that_was_told_to_stop_equals_the_uninterrupted_one(
    workshop: Workshop, step: int
) -> None:
    settings = params(max_steps=16)
    whole = workshop.run(settings, name="whole")
    with (
        sigterm_once(
            lambda: steps_told(workshop.root / "cut/out/progress.jsonl") >= step
        ),
        pytest.raises(RunStopped, match="of 16"),
    ):
        workshop.run(settings, name="cut")
    kept = max(
        int(path.name.removeprefix("checkpoint-"))
        for path in (workshop.root / "cut/scratch").glob("checkpoint-*")
    )
    resumed = workshop.run(settings, name="cut")
    assert resumed.resumed_from == (kept,)
    assert [look.step for look in resumed.dev_losses] == [
        look.step for look in whole.dev_losses
    ]
    assert resumed.sha256 == whole.sha256


def test_sigterm_in_the_last_step_costs_nothing(workshop: Workshop) -> None:
    with sigterm_once(
        lambda: steps_told(workshop.root / "one/out/progress.jsonl") >= 6
    ):
        assert workshop.run(params()).steps == 6


@contextmanager
def sigterm_once(is_so: Callable[[], bool]) -> Iterator[None]:
    """Within, this process gets SIGTERM once it is so; one that comes late does no harm.

    The looking is done by the thread that trains, at every other millisecond of its work: training
    cannot run ahead of it.
    """

    def look(*_: object) -> None:
        if is_so():
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGVTALRM, look)
    with on_sigterm(lambda: None):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.002, 0.002)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)


def steps_told(path: Path) -> int:
    lines = path.read_text().splitlines() if path.is_file() else []
    return max(
        (
            int(line.split('"step": ')[1].split(",")[0])
            for line in lines
            if line.endswith("}")
        ),
        default=0,
    )
