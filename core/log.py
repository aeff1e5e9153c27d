"""What a serving process writes for whoever reads its log."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from core.errors import AssayError


def say(line: str, on: TextIO | None = None) -> None:
    """Write a line to stderr, or `on` another stream.

    A stream that takes nothing (its disk is full, its reader has ended) stops nothing. Such a
    line is lost, or comes late where the stream has a buffer; the next one is tried again.
    """
    stream = on or sys.stderr
    with suppress(OSError):
        stream.write(f"{line}\n")
        stream.flush()


def exit_code(work: Callable[[], None]) -> int:
    """Do the work of a serving process: 0 when it is done, 1 where an `AssayError` ended it.

    The error's message goes to the log: this is the edge where it is caught.
    """
    try:
        work()
    except AssayError as error:
        say(str(error))
        return 1
    return 0
