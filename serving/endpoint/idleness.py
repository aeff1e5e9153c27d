"""When an engine that nobody asks gives its memory back, and who has it loaded again."""

import asyncio
import time

from core.settings import Settings
from serving.whole_number import read_seconds

_SHORTEST, _LONGEST = 30, 604_800
"""Seconds: a shorter time would be spent on loading, and a week is as good as never."""


class Idleness:
    """How long an engine has not been asked, and the wish to have it back."""

    def __init__(self, limit: float) -> None:
        # Seconds; 0: it is never unloaded.
        self._limit = limit
        self._last_asked = time.monotonic()
        self._wanted = asyncio.Event()

    def note(self) -> None:
        """It is being asked, or begins to answer."""
        self._last_asked = time.monotonic()

    async def wait_until_over(self) -> None:
        """Wait until the time without a request is over; without a limit for ever."""
        if self._limit == 0:
            await asyncio.Event().wait()
        while (left := self._seconds_left()) > 0:  # noqa: ASYNC110 - time alone ends it
            await asyncio.sleep(left)

    def begin_sleep(self) -> None:
        """Only who asks from now on wakes it."""
        self._wanted.clear()

    def wake(self) -> None:
        """Have it loaded again, where it sleeps."""
        self._wanted.set()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody has asked since it began to sleep."""
        return self._wanted.is_set()

    async def wait_until_woken(self) -> None:
        """Wait until somebody has asked for it."""
        await self._wanted.wait()
        self.note()

    def describe(self) -> str:
        """Why it sleeps."""
        return f"nobody asked it for {self._limit:.0f} s; a request loads it again"

    def _seconds_left(self) -> float:
        unasked = time.monotonic() - self._last_asked
        return self._limit - unasked


def seconds_until_unloaded(settings: Settings) -> int:
    """`ASSAY_UNLOAD_AFTER`, 0 for never; `ServingError` where it is out of bounds."""
    text = settings.unload_after
    return read_seconds("ASSAY_UNLOAD_AFTER", text, _SHORTEST, _LONGEST)
