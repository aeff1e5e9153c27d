"""kill -9 of `assay up` itself.

Nothing of it is left, and what its guards could not see is ended by the next command.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.supervise.processes import find_marked
from operations.system_mark import system_mark
from tests.support.journey import make_checkout
from tests.support.running_system import Up, has_ended, nothing_left, start_up
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.ci


@pytest.fixture
def up(cloned: Path, empty_mlflow: Path, tmp_path: Path) -> Iterator[Up]:
    running = start_up(
        make_checkout(tmp_path / "assay", cloned, empty_mlflow), tmp_path / "up.log"
    )
    try:
        yield running
    finally:
        running.end()


def test_nothing_is_left_of_one_that_is_killed_while_it_starts(up: Up) -> None:
    home = up.checkout.home
    up.wait(lambda: len(list(find_marked(system_mark(home)))) >= 4)
    up.process.kill()
    up.process.wait()
    assert nothing_left(home, seconds=60)
    assert up.checkout.assay("status").code == 0
    assert up.checkout.assay("down").out == "Nothing is running.\n"


def test_what_a_killed_one_and_its_killed_guards_left_is_ended_by_down(up: Up) -> None:
    home = up.checkout.home
    up.process.kill()
    up.process.wait()
    left = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={**os.environ, **system_mark(home).environment},
    )
    try:
        assert nothing_left(home, seconds=0) is False
        assert "a killed `assay up` had left" in up.checkout.assay("down").out
        assert has_ended(left.pid)
    finally:
        left.kill()
        left.wait()


@pytest.mark.slow
def test_nothing_is_left_of_a_ready_one_and_a_second_start_finds_the_same_accounts(
    up: Up,
) -> None:
    home = up.checkout.home
    up.wait(lambda: "Ready after" in up.output)
    before = (home / "passwords.json").read_text()
    up.process.kill()
    up.process.wait()
    assert nothing_left(home, seconds=60)
    again = start_up(up.checkout, home.parent / "again.log")
    try:
        again.wait(lambda: "Ready after" in again.output)
        assert (home / "passwords.json").read_text() == before
        done = up.checkout.assay("down")
        assert (done.out, again.process.wait(timeout=SECONDS_AT_MOST)) == (
            "Stopped.\n",
            0,
        )
        assert nothing_left(home, seconds=0)
    finally:
        again.end()


@pytest.mark.slow
def test_a_service_whose_guard_is_killed_is_ended_and_started_again(up: Up) -> None:
    up.wait(lambda: "Ready after" in up.output)
    for name, pid in up.pids().items():
        guard = _parent(pid)
        os.kill(guard, signal.SIGKILL)
        assert has_ended(pid), name
        up.wait(
            lambda name=name, pid=pid: (  # type: ignore[misc]
                up.service(name).state == "ready"
                and up.service(name).pid not in (pid, None)
            )
        )


def _parent(pid: int) -> int:
    import psutil

    parent = psutil.Process(pid).ppid()
    assert "operations.supervise.process_guard" in psutil.Process(parent).cmdline()
    return parent
