"""Locks between the processes of one machine. The kernel frees a lock when its holder dies.

Two kinds, and the lock files of a home, each with the process that holds it:

exclusive, take_turn, try_exclusive    one holder of a lock file
in_use, alone                          many users of a home, or one clean-up of it

up.lock                      `assay up`             leases/release.lock       a release or rollback
ledger.lock                  opening the ledger     leases/backup.lock        a backup
keys/rotation.lock           replacing the key      leases/controller.lock    the active controller
keys/head.lock               the head record        leases/training-*.lock    training of one model
endpoint/lock                the endpoint           leases/<stage>-*.lock     a stage of one key
worktrees/<run>.lock         a run's workspace      leases/gc.lock            in_use and alone
leases/mlflow.lock           each MLflow server, or a move of the records
leases/api-keys.lock         changing the API keys

Lock files are empty, and stay in place after their release.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from core.errors import AssayError, OperationError

_SECONDS_BETWEEN_TRIES = 0.1
_FOREVER = -1.0


@contextmanager
def exclusive(
    path: Path,
    *,
    wait: float | None = None,
    busy: Callable[[], AssayError] | None = None,
) -> Iterator[None]:
    """Hold a lock file; wait up to `wait` seconds for it, or for as long as it takes.

    Where the time is up, raises the error that `busy` makes, else `TimeoutError`:

        with exclusive(backup_lock(home), wait=0, busy=lambda: OperationError(sentence)):
            ...
    """
    lock = _lock_at(path)
    seconds = _FOREVER if wait is None else wait
    try:
        lock.acquire(timeout=seconds)
    except Timeout as error:
        if busy is None:
            raise
        raise busy() from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def take_turn(path: Path, notice: Callable[[], None]) -> Iterator[bool]:
    """Hold a lock file, after a `notice` and a wait where another holds it.

    Yields whether another held it.
    """
    lock = _lock_at(path)
    try:
        lock.acquire(timeout=0)
        has_waited = False
    except Timeout:
        # Before the wait, which may take hours.
        notice()
        lock.acquire()
        has_waited = True
    try:
        yield has_waited
    finally:
        lock.release()


@contextmanager
def try_exclusive(path: Path) -> Iterator[bool]:
    """Hold a lock file where it is free; yields whether it was, and never waits."""
    lock = _lock_at(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a living process holds a lock file; a missing file is not created."""
    if not path.exists():
        return False
    # The only way to know is to try.
    with try_exclusive(path) as is_free:
        return not is_free


@contextmanager
def share_home(home: Path) -> Iterator[None]:
    """Keep clean-ups away from a home, together with any number of other users.

    Waits for a clean-up that is running.
    """
    # FileLock has no shared mode, so these two call the kernel. Closing the file frees the lock.
    with _open_lock(_lease(home, "gc")) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextmanager
def serve_records(home: Path) -> Iterator[None]:
    """Be one of the servers of a home's MLflow; waits while its records are moved."""
    with _open_lock(_lease(home, "mlflow")) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextmanager
def without_servers(home: Path) -> Iterator[bool]:
    """Keep servers of a home's MLflow away; yields whether there was none, and never waits."""
    with _open_lock(_lease(home, "mlflow")) as descriptor:
        yield _try_alone(descriptor)


@contextmanager
def alone(home: Path, patience: float) -> Iterator[None]:
    """Have a home without any user; `OperationError` where one is left after `patience` seconds."""
    deadline = time.monotonic() + patience
    with _open_lock(_lease(home, "gc")) as descriptor:
        while not _try_alone(descriptor):
            # Not a blocking lock: a run may take hours, and a person waits for this.
            if time.monotonic() > deadline:
                raise OperationError(
                    f"A run or a backup uses {home} now. Nothing was changed: "
                    "run this again when it has ended."
                )
            time.sleep(_SECONDS_BETWEEN_TRIES)
        yield


def up_lock(home: Path) -> Path:
    """Held by the one `assay up` of a home."""
    return home / "up.lock"


def ledger_lock(home: Path) -> Path:
    """Held while a ledger is opened for the first time, or restored."""
    return home / "ledger.lock"


def rotation_lock(home: Path) -> Path:
    """Held while the key that signs the ledger is replaced."""
    return home / "keys" / "rotation.lock"


def head_lock(home: Path) -> Path:
    """Held while the head record is written."""
    return home / "keys" / "head.lock"


def endpoint_lock(home: Path) -> Path:
    """Held by the one endpoint of a home, which may run without `assay up`."""
    return home / "endpoint" / "lock"


def workspace_lock(root: Path) -> Path:
    """Held by the run whose workspace is at `root`: the file beside the folder."""
    return root.with_suffix(".lock")


def release_lock(home: Path) -> Path:
    """Held by whoever drives a release.

    Once its driver has died, the controller holds it and finishes the release.
    """
    return _lease(home, "release")


def api_keys_lock(home: Path) -> Path:
    """Held while the endpoint's API keys are changed."""
    return _lease(home, "api-keys")


def backup_lock(home: Path) -> Path:
    """Held by the one backup of a home."""
    return _lease(home, "backup")


def controller_lock(home: Path) -> Path:
    """Held by the controller that works; others stand by for it."""
    return _lease(home, "controller")


def training_lock(home: Path, model: str) -> Path:
    """Held by the one run that trains a model."""
    name = f"training-{model}"
    return _lease(home, name)


def stage_lock(home: Path, stage: str, key: str) -> Path:
    """Held by the run that does the work of a stage key; another run of that work waits."""
    name = f"{stage}-{key}"
    return _lease(home, name)


def _lease(home: Path, name: str) -> Path:
    folder = home / "leases"
    return folder / f"{name}.lock"


def _lock_at(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


@contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        yield lock.fileno()


def _try_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
