"""What a serving process says to whoever reads its log."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from core.errors import AssayError


def say(line: str, on: TextIO | None = None) -> None:
    """Write a line to stderr, or `on` another stream. One that takes nothing (its disk is full, its reader gone) stops nothing.

    A line that is not taken is lost, or comes late where the stream has a buffer; the next one is tried again.
    """
    stream = on or sys.stderr
    with suppress(OSError):
        stream.write(f"{line}\n")
        stream.flush()


def exit_code(work: Callable[[], None]) -> int:
    """The edge of a serving process: 0 where the work was done, 1 where an error ended it, which is said."""
    try:
        work()
    except AssayError as error:
        say(str(error))
        return 1
    return 0
