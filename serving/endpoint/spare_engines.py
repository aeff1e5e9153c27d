"""Engine processes that have imported everything, for the next release to begin with its weights.

    quiet ─▶ started ─▶ warm ─▶ taken by an engine ─▶ quiet again ─▶ the next one

A spare process never makes a release fail: whatever is wrong with it, a fresh one is started.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from core.errors import ServingError
from core.log import say
from core.settings import Settings
from serving.endpoint.engine_process import EngineOrder, EngineProcess
from serving.whole_number import parse_whole

_SECONDS_BETWEEN_LOOKS = 0.25
# For which no engine loads before a spare process takes its share of the processor.
_SECONDS_OF_QUIET = 1.0
# For one that is taken while it still imports.
_SECONDS_TO_WARM = 30.0
# For one that nobody waits for: after that it hangs.
_SECONDS_TO_IMPORT = 300.0
# Between two starts, where spare processes end by themselves again and again.
_SHORTEST_PAUSE = 2.0
_LONGEST_PAUSE = 300.0
# Pauses double: so many failures lead to the longest one.
_FAILURES_COUNTED = 8
_MOST = 8
_MEGABYTE = 2**20


def count_wanted(settings: Settings) -> int:
    """How many spare processes the environment asks for; `ServingError` where it is no number."""
    text = settings.spare_engines
    count = parse_whole(text, _MOST)
    if count is not None:
        return count
    raise ServingError(
        f"ASSAY_SPARE_ENGINES is {text[:20]!r}, and a number from 0 to {_MOST} is needed. "
        "Correct it, or leave it out."
    )


@dataclass
class _Spare:
    """A process, and whether it is warm by now."""

    process: EngineProcess
    warming: asyncio.Task[None]

    @property
    def is_lost(self) -> bool:
        """Whether it can never be used."""
        if self.process.has_ended:
            return True
        if not self.warming.done():
            return False
        # Something else than "warm" was said.
        error = self.warming.exception()
        return error is not None


@dataclass
class SpareEngines:
    """So many spare processes as are wanted; those that are taken are started again later."""

    wanted: int
    _spares: list[_Spare] = field(default_factory=list)
    _failures: int = 0
    _not_before: float = 0.0

    @property
    def pids(self) -> tuple[int, ...]:
        """Of those that wait, or still import."""
        return tuple(spare.process.pid for spare in self._spares)

    @property
    def are_due(self) -> bool:
        """Whether one imports, or is to be started as soon as no engine loads."""
        if any(not spare.warming.done() for spare in self._spares):
            return True
        are_missing = len(self._spares) < self.wanted
        return are_missing and time.monotonic() >= self._not_before

    async def start_engine(self, order: EngineOrder) -> EngineProcess:
        """An engine process that answers: a spare one, or a fresh one where that is of no use.

        `ServingError` with the last line of the fresh one's log where it ends before.
        """
        if self._spares:
            # At once: two engines that load must not share one.
            spare = self._spares.pop(0)
            is_loaded = await self._load(spare, order)
            if is_loaded:
                return spare.process
        return await EngineProcess.start(order)

    async def keep(self, is_quiet: Callable[[], bool]) -> None:
        """For as long as the endpoint runs: start what is wanted while no engine loads."""
        quiet_since = time.monotonic()
        while self.wanted:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            await self._drop_lost()
            now = time.monotonic()
            if not is_quiet():
                quiet_since = now
            has_been_quiet = now - quiet_since >= _SECONDS_OF_QUIET
            has_paused = now >= self._not_before
            if has_been_quiet and has_paused:
                await self._start_one()

    async def close(self) -> None:
        """End those that wait."""
        self.wanted = 0
        spares, self._spares = self._spares, []
        for spare in spares:
            await _end(spare)

    async def _load(self, spare: _Spare, order: EngineOrder) -> bool:
        """Whether the process has loaded that and answers; it has ended where not."""
        try:
            # Shielded: an engine that is not needed any more ends the process, not this task alone.
            warming = asyncio.shield(spare.warming)
            await asyncio.wait_for(warming, _SECONDS_TO_WARM)
            await spare.process.load(order)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, a fresh process is started
            fact = f"{type(error).__name__}: {str(error)[:300]}"
            say(f"{order.label} does not load in a spare engine process: {fact}")
            self._count_failure()
            await _end(spare)
            return False
        except BaseException:
            await _end(spare)
            raise
        self._failures = 0
        return True

    async def _drop_lost(self) -> None:
        lost = [spare for spare in self._spares if spare.is_lost]
        # All before the first wait: one that is still there may be taken during it.
        for spare in lost:
            self._spares.remove(spare)
        for spare in lost:
            pid = spare.process.pid
            say(f"Spare engine process {pid} ended by itself")
            self._count_failure()
            await _end(spare)

    async def _start_one(self) -> None:
        # One after the other: imports are work for one core each.
        for spare in self._spares:
            if not spare.warming.done():
                return
        count = len(self._spares)
        if count >= self.wanted:
            return
        try:
            process = await EngineProcess.start_spare()
        except OSError as error:
            # No memory or no process left: engines need both more than this does.
            say(f"No spare engine process can be started ({error.strerror})")
            self._count_failure()
            return
        warming = asyncio.create_task(_warm(process))
        spare = _Spare(process, warming)
        self._spares.append(spare)

    def _count_failure(self) -> None:
        failures = self._failures + 1
        # A power of many would be no number any more.
        self._failures = min(failures, _FAILURES_COUNTED)
        pause = _SHORTEST_PAUSE**self._failures
        shortened = min(pause, _LONGEST_PAUSE)
        now = time.monotonic()
        self._not_before = now + shortened


async def _warm(process: EngineProcess) -> None:
    """Wait until it has imported everything; `ServingError` or `TimeoutError` where it does not."""
    await asyncio.wait_for(process.wait_until_warm(), _SECONDS_TO_IMPORT)
    try:
        memory = psutil.Process(process.pid).memory_info()
    except psutil.Error:
        # It ended just now, which the next look sees.
        return
    megabytes = memory.rss / _MEGABYTE
    say(
        f"Spare engine process {process.pid} is ready, with {megabytes:.0f} MB",
    )


async def _end(spare: _Spare) -> None:
    spare.warming.cancel()
    # It has nothing to finish.
    await spare.process.stop(at_once=True)
