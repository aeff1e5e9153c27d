"""How often the process of an engine ended by itself, and how long to wait before the next one."""

import asyncio
from contextlib import suppress

# Seconds between two starts.
_LONGEST_PAUSE = 30.0
# Seconds: a process that ran so long starts the count of ends again.
_STEADY = 60.0


class Restarts:
    """The ends of one engine's processes."""

    def __init__(self) -> None:
        # Ever, and in a row.
        self.ends = 0
        self.ends_in_a_row = 0
        # There is a reason to try again before the pause is over.
        self._hurry = asyncio.Event()

    def count(self, seconds: float, *, was_ready: bool) -> None:
        """Count an end of a process that ran, or loaded, for so long."""
        self.ends += 1
        is_steady = seconds > _STEADY
        self.ends_in_a_row = 1 if was_ready and is_steady else self.ends_in_a_row + 1

    def forget_row(self) -> None:
        """The last process answered until it was told to end."""
        self.ends_in_a_row = 0

    async def pause(self) -> None:
        """Wait before the next try, unless there is a reason to hurry."""
        # The first restart is immediate; then 1 s, 2 s, 4 s, …
        seconds = 0.0
        if self.ends_in_a_row > 1:
            seconds = min(_LONGEST_PAUSE, 2.0 ** (self.ends_in_a_row - 2))
        self._hurry.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    def hurry(self) -> None:
        """End the pause."""
        self._hurry.set()
