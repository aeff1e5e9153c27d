"""A guard leaves nothing of its command behind, however command, owner or guard ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.supervise.processes import end_marked
from operations.system_mark import system_mark
from tests.support.running_system import has_ended, nothing_left
from tests.support.waiting import SECONDS_AT_MOST

SECONDS = SECONDS_AT_MOST
"""For what takes less than one on a machine that does nothing else."""

# A child that ignores SIGTERM, and a grandchild that has left session and parent: each writes its
# number.
_STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1] + "/orphan", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
open(sys.argv[1] + "/child", "w").write(str(os.getpid()))
time.sleep(600)
"""


# Two that have left its session; one of them is to outlive the service `thing`.
_LEAVES_TWO = """
import os, subprocess, sys, time
for name, more in (("outliving", {"ASSAY_OUTLIVES": "thing"}), ("orphan", {})):
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    left = subprocess.Popen(sleep, env={**os.environ, **more}, start_new_session=True)
    open(sys.argv[1] + "/" + name, "w").write(str(left.pid))
open(sys.argv[1] + "/child", "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_marked(system_mark(tmp_path))


def guard(
    home: Path,
    *command: str,
    owner: int | None = None,
    seconds: float = 0.3,
    name: str = "",
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "operations.supervise.process_guard",
            "--owner",
            str(owner or os.getpid()),
            "--seconds-to-stop",
            str(seconds),
            "--name",
            name,
            "--",
            *command,
        ],
        env={**os.environ, **system_mark(home).environment},
        start_new_session=True,
    )


def number(path: Path) -> int:
    deadline = time.monotonic() + SECONDS
    while not (path.is_file() and path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return int(path.read_text())


def both(home: Path) -> tuple[int, int]:
    return number(home / "child"), number(home / "orphan")


def test_the_guard_ends_with_the_code_of_its_command(home: Path) -> None:
    assert (
        guard(home, sys.executable, "-c", "raise SystemExit(7)").wait(timeout=SECONDS)
        == 7
    )


def test_a_command_that_ends_in_time_when_told_counts_as_ended_well(home: Path) -> None:
    process = guard(
        home,
        sys.executable,
        "-c",
        f"open({str(home / 'child')!r}, 'w').write('1'); import time; time.sleep(600)",
        seconds=SECONDS,
    )
    number(home / "child")
    process.terminate()
    assert process.wait(timeout=SECONDS) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_command_that_ignores_the_signal_is_ended_with_all_that_it_started(
    home: Path, how: signal.Signals
) -> None:
    process = guard(home, sys.executable, "-c", _STUBBORN, str(home))
    child, orphan = both(home)
    process.send_signal(how)
    assert process.wait(timeout=SECONDS) != 0
    assert has_ended(child)
    assert has_ended(orphan)


def test_what_a_command_leaves_behind_ends_with_it(home: Path) -> None:
    process = guard(home, sys.executable, "-c", _STUBBORN, str(home))
    child, orphan = both(home)
    os.kill(child, signal.SIGKILL)
    assert process.wait(timeout=SECONDS) == 128 + signal.SIGKILL
    assert has_ended(orphan)


def test_what_outlives_a_service_is_left_for_its_next_start_where_it_dies(
    home: Path,
) -> None:
    process = guard(home, sys.executable, "-c", _LEAVES_TWO, str(home), name="thing")
    child, orphan = both(home)
    os.kill(child, signal.SIGKILL)
    assert process.wait(timeout=SECONDS) == 128 + signal.SIGKILL
    assert has_ended(orphan)
    assert not has_ended(number(home / "outliving"), seconds=0.2)


def test_what_would_outlive_a_service_ends_where_the_service_is_told_to_end(
    home: Path,
) -> None:
    process = guard(home, sys.executable, "-c", _LEAVES_TWO, str(home), name="thing")
    both(home)
    process.terminate()
    process.wait(timeout=SECONDS)
    assert has_ended(number(home / "outliving"))


def test_everything_ends_when_the_owner_is_killed(home: Path) -> None:
    started = (
        "import subprocess, sys, os; p = subprocess.Popen([*sys.argv[1:5], "
        "str(os.getpid()), *sys.argv[5:]]); p.wait()"
    )
    command = [
        sys.executable,
        "-m",
        "operations.supervise.process_guard",
        "--owner",
        "--",
        sys.executable,
        "-c",
        _STUBBORN,
        str(home),
    ]
    owner = subprocess.Popen(
        [sys.executable, "-c", started, *command],
        env={**os.environ, **system_mark(home).environment},
        start_new_session=True,
    )
    child, orphan = both(home)
    owner.kill()
    owner.wait()
    assert has_ended(child)
    assert has_ended(orphan)
    assert nothing_left(home, seconds=SECONDS)


def test_a_guard_whose_owner_is_gone_already_starts_nothing(home: Path) -> None:
    assert (
        guard(home, sys.executable, "-c", _STUBBORN, str(home), owner=1).wait(
            timeout=SECONDS
        )
        == 0
    )
    assert not (home / "child").exists()


def test_a_sweep_ends_what_is_marked_for_that_home_and_nothing_else(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    environments = {
        "ours": {**os.environ, **system_mark(home).environment},
        "theirs": {**os.environ, **system_mark(other).environment},
        "nobody's": dict(os.environ),
    }
    assert system_mark(home).name not in environments["nobody's"]
    processes = {
        name: subprocess.Popen(sleep, env=environment)
        for name, environment in environments.items()
    }
    try:
        assert end_marked(system_mark(home)) == 1
        # Python says 0 of a child that the sweep itself has already reaped.
        ended = processes["ours"].wait(timeout=SECONDS)
        assert ended in {-signal.SIGKILL, 0}
        assert [processes["theirs"].poll(), processes["nobody's"].poll()] == [
            None,
            None,
        ]
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
