"""Waiting in a test for what must come to be.

Long enough for a machine that stalls, and no longer than needed.
"""

import time
from collections.abc import Callable

SECONDS_AT_MOST = 1500
"""Ends a wait for what never comes, on a machine with ten times its load too.

No test judges by it how quick something is.
"""


def wait_until(
    is_so: Callable[[], bool],
    seconds: float = SECONDS_AT_MOST,
    said: Callable[[], object] = str,
) -> None:
    """Until it is so, or too late."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, said()
        time.sleep(0.05)
