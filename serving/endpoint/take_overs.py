"""When releases are taken over by a faster engine: one after the other, in quiet times.

A process that compiles wants the processor for seconds. It could be started with a lower priority,
but would keep that while it answers: a process may not raise its own again. So it is started only
while no release is on its way and no engine loads.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from registry.ledger.state import LedgerState
from serving.endpoint.needs import EngineKey, serving_need
from serving.endpoint.release_engine import ReleaseEngine

_SECONDS_BETWEEN_LOOKS = 0.25
# For which no engine loads, and no spare process imports.
_SECONDS_OF_QUIET = 1.0


class TakeOvers:
    """At most one at a time."""

    def __init__(self) -> None:
        self._allowed: Sequence[ReleaseEngine] = ()

    def allow(self, engines: Sequence[ReleaseEngine]) -> None:
        """These may be taken over from now on; what is under way for another is broken off."""
        for engine in self._allowed:
            if engine not in engines:
                engine.break_off_take_over()
        self._allowed = engines

    async def keep(self, is_quiet: Callable[[], bool]) -> None:
        """For as long as the endpoint runs."""
        quiet_since = time.monotonic()
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            now = time.monotonic()
            if not is_quiet():
                quiet_since = now
            if now - quiet_since >= _SECONDS_OF_QUIET:
                await self._take_next()

    async def _take_next(self) -> None:
        due = (engine for engine in self._allowed if engine.is_take_over_due)
        engine = next(due, None)
        if engine is not None:
            await asyncio.wait({engine.begin_take_over()})


def may_be_taken_over(
    ledger_state: LedgerState, engines: Mapping[EngineKey, ReleaseEngine]
) -> Iterator[ReleaseEngine]:
    """The engines of what serves and is completed, while no release is on its way.

    So nothing changes during a canary and a bake: times and memory are compared between processes
    of one kind. Nothing changes during a freeze, either.
    """
    models = ledger_state.models
    is_on_its_way = any(model.pending for model in models.values())
    if is_on_its_way or ledger_state.frozen is not None:
        return
    for model in models.values():
        need = serving_need(model)
        if need is not None and need.recorded.is_completed:
            yield engines[need.key]
