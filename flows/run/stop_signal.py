"""SIGTERM in a run: the running stage hears of it first and saves its work; then the run ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Never

from core.console import say
from core.errors import RunStopped
from core.files import write_text
from core.stopping import STOP, on_sigterm


def ended_by_sigterm() -> AbstractContextManager[None]:
    """Within, SIGTERM raises `RunStopped`."""
    return on_sigterm(_raise_stopped)


@contextmanager
def stage_stops_first(channel: Path) -> Iterator[None]:
    """Within, pass SIGTERM on to the stage that reads this folder; it takes effect here afterwards.

    The handler from before gets the signal then: Prefect's, which ends its flow run, or that of
    `ended_by_sigterm`.
    """
    was_signalled = threading.Event()

    def pass_on() -> None:
        was_signalled.set()
        write_text(channel / STOP, "")

    try:
        with on_sigterm(pass_on):
            yield
    # The stage has saved its work by now.
    except RunStopped as error:
        if was_signalled.is_set():
            say(f"  {error}")
            signal.raise_signal(signal.SIGTERM)
        raise
    # The stage ended well in spite of the signal: the run stops now.
    if was_signalled.is_set():
        signal.raise_signal(signal.SIGTERM)


def _raise_stopped() -> Never:
    raise RunStopped(
        "The run was told to stop. What is done is kept: run the same command again and it goes on."
    )
