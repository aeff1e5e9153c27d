"""One training of a model at a time. The kernel frees the lock when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.console import say
from core.errors import AlreadyTraining
from core.locks import exclusive, take_turn, training_lock


@contextmanager
def training_turn(home: Path, model: str, *, waits: bool = True) -> Iterator[None]:
    """Hold the lock of a model's training.

    Where another run holds it: wait and say so, or raise `AlreadyTraining` if `waits` is false.
    """
    path = training_lock(home, model)
    if not waits:
        with exclusive(path, wait=0, busy=lambda: _already_training(model)):
            yield
        return

    def notice() -> None:
        say(f"  (waiting for another run's end: it is training {model})")

    with take_turn(path, notice) as has_waited:
        if has_waited:
            say(f"  (waited for another run's end: it was training {model})")
        yield


def _already_training(model: str) -> AlreadyTraining:
    return AlreadyTraining(
        f"{model} is being trained by another run already: nothing was started."
    )
