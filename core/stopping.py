"""Stopping on SIGTERM, which comes when a machine is taken away, or when somebody ends a run."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STOP = "stop"
"""Name of the file that a run creates to stop its stage."""
SECONDS_BETWEEN_LOOKS = 0.2


@contextmanager
def catch_sigterm() -> Iterator[threading.Event]:
    """Within, SIGTERM sets the event and ends nothing.

    The work looks at the event between two steps, and keeps what it has.
    """
    signalled = threading.Event()
    with on_sigterm(signalled.set):
        yield signalled


@contextmanager
def on_sigterm(do: Callable[[], object]) -> Iterator[None]:
    """Within, SIGTERM calls `do`; outside of the main thread nothing changes."""
    # Python lets only the main thread set a signal's handler.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # Put back at the end: Prefect has a handler of its own.
    previous = signal.signal(signal.SIGTERM, lambda _signal, _frame: do())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def follow_the_run(talk: Path) -> None:
    """Send this process SIGTERM once the file `stop` appears in the folder `talk`."""
    stop_file = talk / STOP
    # A daemon: it must not keep the stage alive that has done its work.
    thread = threading.Thread(target=_follow, args=(stop_file,), daemon=True)
    thread.start()


def _follow(path: Path) -> None:
    while not path.exists():
        time.sleep(SECONDS_BETWEEN_LOOKS)
    os.kill(os.getpid(), signal.SIGTERM)
