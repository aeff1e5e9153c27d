"""The controller: one process that makes everything match the ledger, at start and on a timer.

A kernel lock lets one controller of a home work; a second one waits and takes over when the first
has ended. What it writes goes through the ledger's compare and swap, so one that slept through a
take-over is refused. Each duty is tried by itself: MLflow or Prefect being away stops only what
needs them.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.errors import AssayError
from core.locks import controller_lock, try_exclusive
from core.log import say
from core.ready import ready_line
from core.settings import Settings
from operations.doorbell import Bell, listening

if TYPE_CHECKING:
    from operations.reconcile import Reconciler

Duty = Callable[[], tuple[str, ...]]
# A lost doorbell delays a release or a brake by one round at most.
SECONDS_BETWEEN_ROUNDS = 5.0
SECONDS_BETWEEN_LOOKS_FOR_THE_LOCK = 1.0
# What the first judgement imports: 2.5 s on two quiet cores, for which its asker would wait.
_IMPORTED_AHEAD = ("mlflow", "model_signing", "sacrebleu", "scipy.stats")
# Letters: a library's message may hold a whole response.
_LONGEST_ERROR = 300


def main(arguments: list[str] | None = None) -> int:
    """Work until SIGTERM or Ctrl-C."""
    # Before anything imports prefect or mlflow, which read it at import.
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
    # A controller without its `assay up` would keep the lock from the next one.
    end_with_the_run()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return run(stop, every)


def run(stop: threading.Event, every: float) -> int:
    """Wait for the lock, then carry out a round at once and one every so many seconds.

    Ends when `stop` is set; `WorkspaceError` where there is no project.
    """
    from core.project import find_project
    from operations.reconcile import Reconciler

    project = find_project(Settings().home)
    with _turn(project.home, stop) as is_ours:
        if not is_ours:
            return 0
        reconciler = Reconciler(project)
        rounds = Rounds(stop, Bell(), every)
        with listening(project.home, rounds.bell):
            _say(ready_line(f"the controller looks every {every:g} s."))
            # Going back imports nothing of MLflow's, and waits for nothing.
            rounds.begin(lambda: reconciler.of_ways_back)
            starting = threading.Thread(
                target=begin_slow_rounds, args=(rounds, reconciler), daemon=True
            )
            starting.start()
            rounds.repeat(lambda: reconciler.of_releases)
    return 0


@dataclass(frozen=True)
class Rounds:
    """Rounds of duties until it is over: one at each ring, and one every so many seconds."""

    stop: threading.Event
    bell: Bell
    every: float

    def begin(self, list_duties: Callable[[], tuple[Duty, ...]]) -> None:
        """Repeat them in a thread of their own."""
        threading.Thread(target=self.repeat, args=(list_duties,), daemon=True).start()

    def repeat(self, list_duties: Callable[[], tuple[Duty, ...]]) -> None:
        """Carry out the duties again and again until it is over."""
        while not self.stop.is_set():
            # Before the round: a ring during it asks for another one.
            heard = self.bell.rings
            self._carry_out(list_duties())
            self.bell.wait(heard, self.stop, self.every)

    def _carry_out(self, duties: tuple[Duty, ...]) -> None:
        for duty in duties:
            # A duty may take long, so a request to end is looked for before each.
            if not self.stop.is_set():
                attempt(duty)


def attempt(duty: Duty) -> None:
    """Carry out one duty; what it did, or why it could not, is a line in the log."""
    try:
        for sentence in duty():
            _say(sentence)
    except AssayError as error:
        _say(f"{duty.__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - one broken duty must not end the others
        cause = f"{type(error).__name__}: {str(error)[:_LONGEST_ERROR]}"
        _say(f"{duty.__name__} failed: {cause}")


def begin_slow_rounds(rounds: Rounds, reconciler: "Reconciler") -> None:
    """Begin the rounds that ask MLflow, each in a thread beside the releases.

    An MLflow that does not answer must not keep releases waiting, nor a transfer of gigabytes.
    """
    # First, and by one thread: of two that import MLflow at once, one finds half of it.
    _import_ahead()
    rounds.begin(lambda: reconciler.of_the_record)
    rounds.begin(lambda: reconciler.of_transfers)
    rounds.begin(lambda: reconciler.of_wishes)


def _import_ahead() -> None:
    """Import what judging needs; where one cannot be, the judgement says so."""
    for name in _IMPORTED_AHEAD:
        with suppress(Exception):
            import_module(name)


@contextmanager
def _turn(home: Path, stop: threading.Event) -> Iterator[bool]:
    """Hold the lock once it is free; yields False where the controller was asked to end before."""
    is_reported = False
    while not stop.is_set():
        # Polled, since a blocking wait for the lock would not see the request to end.
        with try_exclusive(controller_lock(home)) as is_ours:
            if is_ours:
                yield True
                return
        if not is_reported:
            _say(f"Standing by: another controller works for {home}.")
        is_reported = True
        stop.wait(SECONDS_BETWEEN_LOOKS_FOR_THE_LOCK)
    yield False


def _say(text: str) -> None:
    say(text, sys.stdout)


if __name__ == "__main__":
    code = main()
    os._exit(code)  # threads of clients that wait for a server have nothing left to do
