"""Python's search for garbage in cycles, kept away from what a process keeps.

A full search looks at every object while no thread runs any code of Python. In an engine process
there are 430,000, and each search would hold up all answers for a quarter of a second.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_search() -> Iterator[None]:
    """Import what is kept: nothing is searched meanwhile, and that is never searched later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def leave_out_of_search() -> None:
    """Free what is garbage now, and leave what is not out of every later search."""
    gc.collect()
    gc.freeze()
