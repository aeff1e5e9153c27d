"""The controller: one long-lived process that makes everything match the ledger, at start and on a timer.

A kernel lock lets one controller of a home work; a second one stands by and takes over when the first is gone. What it writes goes through
the ledger's compare and swap, so one that slept through a take-over is refused. Each duty is tried by itself: MLflow or Prefect being away
stops only what needs them.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.environment import set_library_environment
from core.errors import AssayError
from core.locks import controller_lock, try_exclusive
from core.ready import ready_line
from core.settings import Settings
from serving.log import say

Duty = Callable[[], tuple[str, ...]]
SECONDS_BETWEEN_ROUNDS = 5.0
SECONDS_BETWEEN_LOOKS_FOR_THE_LOCK = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Work until SIGTERM or Ctrl-C."""
    set_library_environment()
    from core.lifetime import end_with_the_run

    parser = argparse.ArgumentParser(
        prog="python -m operations.controller",
        description="Make everything match the ledger.",
    )
    parser.add_argument(
        "--every",
        type=float,
        default=SECONDS_BETWEEN_ROUNDS,
        help="seconds between two rounds",
    )
    every = parser.parse_args(arguments).every
    end_with_the_run()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    return run(done, every)


def run(done: threading.Event, every: float) -> int:
    """Stand by until the lock is ours, then a round at once and one every so many seconds."""
    from core.project import find_project
    from operations.reconcile import Reconciler

    project = find_project(Settings().home)
    with _turn(project.home, done) as is_ours:
        if not is_ours:
            return 0
        duties = Reconciler(project)
        _say(ready_line(f"the controller looks every {every:g} s."))
        # Beside the releases: an MLflow that does not answer must not keep them waiting.
        record = threading.Thread(
            target=_rounds,
            args=(lambda: duties.of_the_record, done, every),
            daemon=True,
        )
        record.start()
        _rounds(lambda: duties.of_releases, done, every)
    return 0


def _rounds(
    duties: Callable[[], tuple[Duty, ...]], done: threading.Event, every: float
) -> None:
    while not done.is_set():
        for duty in duties():
            if not done.is_set():
                attempt(duty)
        done.wait(every)


def attempt(duty: Duty) -> None:
    """One duty; what it did, or why it could not, is a line in the log."""
    try:
        for sentence in duty():
            _say(sentence)
    except AssayError as error:
        _say(f"{duty.__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - a duty that fails in a new way must not end the others
        _say(f"{duty.__name__} failed: {type(error).__name__}: {str(error)[:300]}")


@contextmanager
def _turn(home: Path, done: threading.Event) -> Iterator[bool]:
    """Hold the lock, once it is free; yields False where the controller has to end before."""
    has_announced = False
    while not done.is_set():
        with try_exclusive(controller_lock(home)) as is_ours:
            if is_ours:
                yield True
                return
        if not has_announced:
            _say(f"Standing by: another controller works for {home}.")
        has_announced = True
        done.wait(SECONDS_BETWEEN_LOOKS_FOR_THE_LOCK)
    yield False


def _say(text: str) -> None:
    say(text, sys.stdout)


if __name__ == "__main__":
    code = main()
    os._exit(code)  # threads of clients that wait for a server have nothing left to do
