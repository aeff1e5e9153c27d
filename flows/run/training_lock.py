"""Two trainings of one model never overlap. The kernel holds the turn and gives it back when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from core.console import say
from core.errors import AlreadyTraining


@contextmanager
def training_turn(home: Path, model: str, *, waits: bool = True) -> Iterator[None]:
    """Have the model to oneself; where another run has it, wait, or be told so by `AlreadyTraining`."""
    path = home / "leases" / f"training-{model}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    turn = FileLock(path)
    try:
        turn.acquire(timeout=0)
    except Timeout as error:
        if not waits:
            raise AlreadyTraining(
                f"{model} is being trained by another run already: nothing was started."
            ) from error
        say(f"  (waiting for another run's end: it is training {model})")
        turn.acquire()
        say(f"  (waited for another run's end: it was training {model})")
    try:
        yield
    finally:
        turn.release()
