"""How many requests are being answered, and when none is."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class RequestCount:
    """Requests of an engine, or of one of its processes."""

    def __init__(self) -> None:
        self.number = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def count(self) -> Iterator[None]:
        """Count a request for as long as the context lasts."""
        self.number += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.number -= 1
            if self.number == 0:
                self._idle.set()

    async def wait_until_idle(self, limit: float | None = None) -> None:
        """Wait until no request is being answered, `limit` seconds at most; None: for ever."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), limit)
