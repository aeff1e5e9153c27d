"""SIGTERM in a run: the stage that goes on is told first, and keeps what it has; then the run ends."""

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


def stops_when_told() -> AbstractContextManager[None]:
    """Within, SIGTERM ends what goes on with `RunStopped`."""
    return on_sigterm(_stop)


@contextmanager
def stage_first(talk: Path) -> Iterator[None]:
    """Within, SIGTERM is passed on to the stage that talks through this folder, and takes effect here once the stage has ended.

    Whoever waited for the signal before gets it then: Prefect, which ends its flow run, or `stops_when_told`.
    """
    told = threading.Event()
    try:
        with on_sigterm(lambda: _pass_on(talk, told)):
            yield
    except RunStopped as error:
        if told.is_set():
            say(f"  {error}")
            signal.raise_signal(signal.SIGTERM)
        raise
    if told.is_set():
        signal.raise_signal(signal.SIGTERM)


def _pass_on(talk: Path, told: threading.Event) -> None:
    told.set()
    write_text(talk / STOP, "")


def _stop() -> Never:
    raise RunStopped(
        "The run was told to stop. What is done is kept: run the same command again and it goes on."
    )
