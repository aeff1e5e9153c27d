"""Engine processes that an endpoint which was killed has left running."""

import asyncio
from pathlib import Path

from core.log import say
from serving.endpoint.engine_choice import EngineWish
from serving.endpoint.engine_record import EngineContents, EngineRecord, read_records
from serving.endpoint.loaded_engine import end_process
from serving.endpoint.shared.processes import SharedProcesses


class Leftovers:
    """Those of one home: each is adopted by the release that has the same loaded, or ended."""

    def __init__(
        self,
        home: Path,
        engines: EngineWish,
        shared: SharedProcesses,
        seconds_between_checks: float,
    ) -> None:
        self._home = home
        # Of two that have the same loaded, the one that is computed by what lasts is adopted,
        # unless its endpoint was killed before it had been probed.
        self._engines = engines
        self._shared = shared
        self._seconds_between_checks = seconds_between_checks
        # None before the first look.
        self._records: list[EngineRecord] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def find(self) -> None:
        """Look for them, once: those that come later are this endpoint's own."""
        if self._records is not None:
            return
        records = read_records(self._home)
        self._records = list(records)
        # All of them first: a shared process is ended with the last release that was in it.
        seconds = self._seconds_between_checks
        self._shared.adopt(records, seconds)

    def take(self, contents: EngineContents) -> EngineRecord | None:
        """A process that has the same loaded, which nobody else takes then."""
        records = self._records or []
        same = [record for record in records if record.loaded == contents]
        if not same:
            return None
        best = min(same, key=self._rank)
        records.remove(best)
        return best

    def end_rest(self) -> None:
        """End those that no release has taken, such as that of a release that was revoked."""
        for record in self._records or ():
            say(
                f"Engine process {record.pid} (a release of {record.loaded.model}) "
                "was left running and is not needed any more"
            )
            ending = end_leftover(
                self._home,
                record,
                self._shared,
            )
            task = asyncio.create_task(ending)
            # The event loop holds tasks weakly: one that nobody keeps may vanish.
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        self._records = []

    async def wait_until_ended(self) -> None:
        """Wait until those that are being ended have ended."""
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _rank(self, record: EngineRecord) -> tuple[bool, bool, bool]:
        choice = self._engines.choose(record.loaded.spec.engine)
        is_other = record.engine != choice.lasting
        return not record.is_probed, is_other, not record.is_shared


async def end_leftover(
    home: Path, leftover: EngineRecord, shared: SharedProcesses
) -> None:
    """End what an earlier endpoint has left running: a process, or a place in one."""
    process = shared.find_left(leftover)
    await end_process(process, home, at_once=False)
