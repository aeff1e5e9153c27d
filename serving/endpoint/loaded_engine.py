"""An engine process that was found to answer as it should, for as long as it runs."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.values.serving_spec import ServingSpec
from serving.endpoint.engine_process import AdoptedEngine, EngineProcess
from serving.endpoint.engine_record import forget_record
from serving.endpoint.health import wait_until_hung
from serving.endpoint.request_count import RequestCount
from serving.endpoint.shared.place import Place
from serving.endpoint.shared.seat import Seat
from serving.endpoint.verify import VerifiedRelease


@dataclass(eq=False)
class LoadedEngine:
    """A process, or a place in one, that answers for a release, and what is known of it."""

    process: EngineProcess | AdoptedEngine | Seat
    verified: VerifiedRelease
    # What it says itself that it has loaded.
    spec: ServingSpec
    # How its probe went; empty where there was none.
    detail: str = ""
    # Those that it is answering.
    requests: RequestCount = field(default_factory=RequestCount)
    # Nobody asks it any more: another process has taken its place, or its release sleeps.
    dismissed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def place(self) -> Place:
        """The kind of its process."""
        return Place(self.spec.engine, is_shared=isinstance(self.process, Seat))

    async def watch(self, seconds_between_checks: float) -> str | None:
        """Wait until it ends or hangs, and say which; None once it is dismissed."""
        end = asyncio.create_task(self.process.wait_for_end())
        hang = asyncio.create_task(self._wait_until_hung(seconds_between_checks))
        dismissal = asyncio.create_task(self.dismissed.wait())
        try:
            await asyncio.wait(
                {end, hang, dismissal}, return_when=asyncio.FIRST_COMPLETED
            )
            # First: whatever became of it, it does not answer any more.
            if self.dismissed.is_set():
                return None
            return end.result() if end.done() else hang.result()
        finally:
            for task in (end, hang, dismissal):
                task.cancel()

    async def end(self, home: Path) -> None:
        """End it. What it still answers ends in an error event, and not whenever it likes."""
        await end_process(self.process, home, at_once=self.requests.number > 0)

    async def retire(self, home: Path, seconds_between_checks: float) -> None:
        """End it once its last answer is complete, however long that takes, or once it hangs."""
        hang = asyncio.create_task(self._wait_until_hung(seconds_between_checks))
        idle = asyncio.create_task(self.requests.wait_until_idle())
        try:
            await asyncio.wait({hang, idle}, return_when=asyncio.FIRST_COMPLETED)
        # Also where nobody waits for that any more: no process may be left.
        finally:
            for task in (hang, idle):
                task.cancel()
            await self.end(home)

    async def _wait_until_hung(self, seconds_between_checks: float) -> str:
        """Wait until it has not answered several checks in a row."""
        if isinstance(self.process, Seat):
            # It is watched once for all that are in it, and ended where it hangs.
            return await self.process.wait_for_end()
        return await wait_until_hung(self.process.address, seconds_between_checks)


async def end_process(
    process: EngineProcess | AdoptedEngine | Seat, home: Path, *, at_once: bool
) -> None:
    """End a process, or leave a shared one, and delete the record of it."""
    name = process.record_name
    await process.stop(
        at_once=at_once,
    )
    forget_record(home, name)
