"""A lock file has one living holder, in whatever process; others wait or are refused."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from core.errors import OperationError
from core.locks import (
    alone,
    backup_lock,
    controller_lock,
    endpoint_lock,
    exclusive,
    head_lock,
    is_held,
    ledger_lock,
    release_lock,
    rotation_lock,
    share_home,
    stage_lock,
    take_turn,
    training_lock,
    try_exclusive,
    up_lock,
    workspace_lock,
)
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from core.locks import exclusive, share_home

context = {"exclusive": exclusive, "share_home": share_home}[sys.argv[1]]
with context(Path(sys.argv[2])):
    print("holds", flush=True)
    time.sleep(600)
"""


@contextmanager
def another_process(context: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock until it is killed."""
    command = [sys.executable, "-c", HOLDER, context, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "holds\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leases" / "one.lock"


def busy() -> OperationError:
    return OperationError("Another process holds it.")


def test_a_lock_that_another_process_holds_is_refused_with_the_callers_error(
    path: Path,
) -> None:
    with another_process("exclusive", path):
        with (
            pytest.raises(OperationError, match=r"Another process holds it\."),
            exclusive(path, wait=0, busy=busy),
        ):
            pass
        with pytest.raises(TimeoutError), exclusive(path, wait=0.1):
            pass


def test_a_lock_is_free_once_its_holder_is_killed(path: Path) -> None:
    with another_process("exclusive", path) as process:
        assert is_held(path)
        process.kill()
        process.wait()
        assert not is_held(path)
        with exclusive(path, wait=0, busy=busy):
            assert is_held(path)


def test_whoever_waits_for_a_lock_has_it_when_its_holder_dies(path: Path) -> None:
    has_it = Event()

    def wait_for_it() -> None:
        with exclusive(path):
            has_it.set()

    with another_process("exclusive", path) as process:
        thread = Thread(target=wait_for_it, daemon=True)
        thread.start()
        assert not has_it.wait(0.3)
        process.kill()
        wait_until(has_it.is_set)
        thread.join()


def test_a_lock_is_free_after_an_error_under_it(path: Path) -> None:
    for hold in (
        exclusive(path),
        exclusive(path, wait=0, busy=busy),
        take_turn(path, lambda: None),
        try_exclusive(path),
    ):
        with pytest.raises(ZeroDivisionError), hold:
            raise ZeroDivisionError
        assert not is_held(path)


def test_an_error_under_the_lock_is_not_taken_for_a_busy_lock(path: Path) -> None:
    with (
        pytest.raises(TimeoutError, match="of the work"),
        exclusive(path, wait=0, busy=busy),
    ):
        raise TimeoutError("of the work")


def test_whoever_only_tries_learns_whether_the_lock_was_free(path: Path) -> None:
    with try_exclusive(path) as is_free:
        assert is_free
        with try_exclusive(path) as is_free_again:
            assert not is_free_again
        assert is_held(path), "a try that fails does not free it"
    assert not is_held(path)


def test_whoever_takes_turns_gives_notice_before_the_wait_and_only_then(
    path: Path,
) -> None:
    notices: list[str] = []
    with take_turn(path, lambda: notices.append("first")) as has_waited:
        assert not has_waited
    assert notices == []

    waits: list[bool] = []

    def have_a_turn() -> None:
        with take_turn(path, lambda: notices.append("second")) as has_waited:
            waits.append(has_waited)

    with another_process("exclusive", path) as process:
        thread = Thread(target=have_a_turn, daemon=True)
        thread.start()
        wait_until(lambda: notices == ["second"])
        assert waits == []
        process.kill()
        thread.join()
    assert waits == [True]


def test_asking_about_a_lock_creates_no_file(path: Path) -> None:
    assert not is_held(path)
    assert not path.parent.exists()


def test_many_use_a_home_at_once_and_a_clean_up_waits_for_the_last(
    tmp_path: Path,
) -> None:
    with another_process("share_home", tmp_path) as process, share_home(tmp_path):
        with pytest.raises(OperationError, match="Nothing was changed"):
            clean_up(tmp_path, patience=0.2)
        process.kill()
        process.wait()
        with pytest.raises(OperationError, match="Nothing was changed"):
            clean_up(tmp_path, patience=0.2)
    clean_up(tmp_path, patience=0)


def clean_up(home: Path, patience: float) -> None:
    with alone(home, patience):
        pass


def test_the_lock_files_of_a_home_keep_their_names(tmp_path: Path) -> None:
    """Two versions of Assay may run beside each other while one replaces the other."""
    names = {
        path.relative_to(tmp_path).as_posix()
        for path in (
            up_lock(tmp_path),
            ledger_lock(tmp_path),
            rotation_lock(tmp_path),
            head_lock(tmp_path),
            endpoint_lock(tmp_path),
            workspace_lock(tmp_path / "worktrees" / "20260101-000000-abcdef"),
            release_lock(tmp_path),
            backup_lock(tmp_path),
            controller_lock(tmp_path),
            training_lock(tmp_path, "letters"),
            stage_lock(tmp_path, "collect", "0" * 64),
        )
    }
    assert names == {
        "up.lock",
        "ledger.lock",
        "keys/rotation.lock",
        "keys/head.lock",
        "endpoint/lock",
        "worktrees/20260101-000000-abcdef.lock",
        "leases/release.lock",
        "leases/backup.lock",
        "leases/controller.lock",
        "leases/training-letters.lock",
        f"leases/collect-{'0' * 64}.lock",
    }
