"""What a person reads on standard output and standard error."""

import sys
from collections.abc import Callable
from functools import cache

from core.address import without_secrets

_listeners: list[Callable[[str], None]] = []


def also_tell(listener: Callable[[str], None]) -> None:
    """Have every later line of `say` go to `listener` too, such as the log of a deployed flow run."""
    _listeners.append(listener)


def say(text: str) -> None:
    """Write one line to standard output at once, without secrets, and give it to every listener."""
    text = without_secrets(text)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    for listener in _listeners:
        listener(text)


@cache
def warn_once(text: str) -> None:
    """A line on standard error: something to know beside the result, which a machine may read."""
    sys.stderr.write(f"assay: {text}\n")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """`8.1 s` or `3 m 07 s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)} m {int(rest):02d} s" if minutes else f"{rest:.1f} s"
