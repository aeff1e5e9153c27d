"""Waiting in a test for what must come to be: long enough for a machine that stalls, and no longer than needed."""

import time
from collections.abc import Callable


def wait_until(is_so: Callable[[], bool], seconds: float = 60, said: Callable[[], object] = str) -> None:
    """Until it is so, or too late."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)
