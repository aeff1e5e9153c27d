"""Told to stop: SIGTERM comes when a machine is taken away, or when somebody ends a run."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STOP = "stop"
"""Name of the file by which a run tells its stage to stop."""
SECONDS_BETWEEN_LOOKS = 0.2


@contextmanager
def told_to_stop() -> Iterator[threading.Event]:
    """Within, SIGTERM sets the event and ends nothing: what goes on looks at it and keeps what it has."""
    told = threading.Event()
    with on_sigterm(told.set):
        yield told


@contextmanager
def on_sigterm(do: Callable[[], object]) -> Iterator[None]:
    """Within, SIGTERM calls `do`. Only the main thread can have it so; in another nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda _signal, _frame: do())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def follow_the_run(talk: Path) -> None:
    """Send this process SIGTERM once the run says `stop` in the folder where the two talk."""
    threading.Thread(target=_follow, args=(talk / STOP,), daemon=True).start()


def _follow(path: Path) -> None:
    while not path.exists():
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)
