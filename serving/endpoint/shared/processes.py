"""The shared processes of an endpoint, and which release comes into which."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.endpoint.engine_process import AdoptedEngine, EngineProcess
from serving.endpoint.engine_record import (
    EngineContents,
    EngineRecord,
    forget_record,
    started_at,
    write_record,
)
from serving.endpoint.shared.attaching import Attachment, NotNow
from serving.endpoint.shared.company import SharedBase
from serving.endpoint.shared.process import Kind, SharedProcess, StartFailed
from serving.endpoint.shared.seat import Seat

# So many starts in a row that failed, and no other is tried for releases of that kind.
_MOST_FAILURES = 2


@dataclass(frozen=True)
class SeatOrder:
    """A release that is to come into a shared process."""

    attachment: Attachment
    engine: str
    home: Path
    seconds_between_checks: float
    # Starts a process with its base, where none has room.
    start: Callable[[], Coroutine[Any, Any, EngineProcess]]

    @property
    def contents(self) -> EngineContents:
        """What is to be loaded."""
        return self.attachment.contents

    @property
    def kind(self) -> Kind:
        """Of the process."""
        return kind_of(self.contents, self.engine)


class SharedProcesses:
    """Releases that look for a place at one moment find the same process."""

    def __init__(self) -> None:
        self._processes: list[SharedProcess] = []
        self._adopted: dict[int, SharedProcess] = {}
        self._failures: Counter[Kind] = Counter()

    def has_room(self, contents: EngineContents, engine: str) -> bool:
        """Whether a process runs that takes that release."""
        process = self._find(contents, engine)
        return process is not None and process.is_started

    async def take(self, order: SeatOrder) -> Seat:
        """A place with that release loaded, in a process that runs, starts, or is started now.

        `StartFailed` where that does not start, `Refused` where the release cannot be beside
        others, `NotNow` where it cannot at this moment, `EngineLost` where the process ends
        meanwhile. It holds nothing of the release then.
        """
        while True:
            found = self._find(order.contents, order.engine)
            process = found or self._begin(order)
            try:
                return await _sit(process, order)
            except StartFailed:
                # It was started for another release, with whose package that may have to do.
                if found is None:
                    self._failures[order.kind] += 1
                    raise
            finally:
                if process.is_started:
                    del self._failures[order.kind]

    def adopt(
        self, records: Iterable[EngineRecord], seconds_between_checks: float
    ) -> None:
        """Those that an endpoint which was killed left running, with all that is in them."""
        for record in records:
            if not record.is_shared:
                continue
            process = self._adopted.get(record.pid)
            if process is None:
                kind = kind_of(record.loaded, record.engine)
                left = AdoptedEngine(record)
                process = SharedProcess.adopt(kind, left, seconds_between_checks)
                self._adopted[record.pid] = process
                self._processes.append(process)
            process.reserve(record.loaded)

    def find_left(self, record: EngineRecord) -> AdoptedEngine | Seat:
        """What an endpoint which was killed left running for one release."""
        if not record.is_shared:
            return AdoptedEngine(record)
        return Seat(self._adopted[record.pid], record.loaded.package_sha256)

    async def close(self) -> None:
        """End all of them."""
        ending = [process.end(at_once=True) for process in self._processes]
        await asyncio.gather(*ending, return_exceptions=True)

    def _find(self, contents: EngineContents, engine: str) -> SharedProcess | None:
        self._processes = [each for each in self._processes if not each.is_over]
        kind = kind_of(contents, engine)
        for process in self._processes:
            is_fitting = process.kind == kind
            if is_fitting and process.has_room(contents):
                return process
        return None

    def _begin(self, order: SeatOrder) -> SharedProcess:
        kind = order.kind
        if self._failures[kind] >= _MOST_FAILURES:
            raise StartFailed(
                f"no shared process of {order.engine} with this base could be started"
            )
        process = SharedProcess.begin(kind, order.start(), order.seconds_between_checks)
        self._processes.append(process)
        return process


def kind_of(contents: EngineContents, engine: str) -> Kind:
    """Of the processes in which that release may be."""
    return Kind(SharedBase.of(contents.spec), engine)


async def _sit(process: SharedProcess, order: SeatOrder) -> Seat:
    contents = order.contents
    seat = Seat(process, contents.package_sha256)
    # Before anything is awaited: two of one model must not come at one moment.
    process.reserve(contents)
    try:
        await process.wait_until_started()
        # Before it is loaded: the next endpoint must know of everything that a process may have.
        await _write_down(process, order)
        await process.attach(order.attachment)
    # BaseException: one that is not wanted any more must leave nothing in a process of others.
    except BaseException:
        await leave(seat, order.home)
        raise
    return seat


async def leave(seat: Seat, home: Path) -> None:
    """Have a release leave its process, and delete the record of it."""
    name = seat.record_name
    await seat.stop(at_once=True)
    forget_record(home, name)


async def _write_down(process: SharedProcess, order: SeatOrder) -> None:
    """Have the next endpoint find that release; `NotNow` where that cannot be written."""
    address = process.address
    record = EngineRecord(
        pid=process.pid,
        started=started_at(process.pid),
        port=address.port,
        token=address.token,
        loaded=order.contents,
        engine=order.engine,
        is_shared=True,
    )
    is_written = await asyncio.to_thread(write_record, order.home, record)
    if not is_written:
        raise NotNow("the next endpoint could not find it there")
