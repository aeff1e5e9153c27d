"""The lock between whoever uses the home and whoever clears it: many use it at once, a clean-up is alone. It goes with its process."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from core.errors import OperationError

_BETWEEN_TRIES = 0.1


@contextmanager
def in_use(home: Path) -> Iterator[None]:
    """Nothing is cleared away while this is held; a clean-up that goes on is waited for."""
    with _opened(home) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextmanager
def alone(home: Path, patience: float) -> Iterator[None]:
    """Nobody uses the home; `OperationError` where somebody still does after `patience` seconds."""
    end = time.monotonic() + patience
    with _opened(home) as descriptor:
        while not _try_alone(descriptor):
            if time.monotonic() > end:
                raise OperationError(
                    f"A run or a backup goes on in {home}. Nothing was changed: run this again when it has ended."
                )
            time.sleep(_BETWEEN_TRIES)
        yield


def is_held(lock: Path) -> bool:
    """Whether a living process holds a file lock; one that nobody made is not made here."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def _opened(home: Path) -> Iterator[int]:
    path = home / "leases" / "gc.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        yield lock.fileno()


def _try_alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_file(home: Path) -> Path:
    """Held by the one `assay up` of that home."""
    return home / "up.lock"
