"""Copies of requests, for engines whose answers nobody sees: never in the way of the original."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from serving.endpoint.lanes import Target
from serving.endpoint.tally import observing
from serving.endpoint.upstream import EngineLost, EngineRequest, exchange

# Copied requests that run at once. More are not copied: an engine that is slow must not collect
# them.
_MOST_AT_ONCE = 4


class Copy(NamedTuple):
    """A request as one target is to see it."""

    target: Target
    request: EngineRequest


class Copier:
    """Sends copies, and forgets them once they are answered and counted."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def send(self, copies: Sequence[Copy]) -> bool:
        """Begin to send all of them, or none where too many run; says which."""
        # All or none: both sides are to answer the same requests.
        if len(self._running) + len(copies) > _MOST_AT_ONCE * len(copies):
            return False
        for copy in copies:
            task = asyncio.create_task(_answer(copy))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return True


async def _answer(copy: Copy) -> None:
    engine = copy.target.engine
    # Counted by its tally, and lost without a trace otherwise.
    with (
        suppress(EngineLost),
        engine.count_request(),
        observing(copy.target.tally) as observation,
    ):
        async with exchange(engine.address, copy.request) as reply:
            observation.status = reply.status
            async for chunk in reply.chunks():
                observation.take(chunk)
