"""One engine process of releases of several models on one base.

starts ─▶ ready ─▶ releases come and go ─┬▶ the last one leaves: it is ended
                                         └▶ it ended or hangs: all of them hear it
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, NamedTuple, Self

from core.errors import AssayError, ServingError
from core.log import say
from serving.endpoint.engine_process import AdoptedEngine, EngineProcess
from serving.endpoint.engine_record import EngineContents
from serving.endpoint.health import wait_until_hung
from serving.endpoint.shared.attaching import Attachment, attach, detach
from serving.endpoint.shared.company import SharedBase
from serving.endpoint.upstream import EngineAddress

# For a release that is still being loaded when it is not wanted any more.
_SECONDS_TO_LOAD = 60.0
# Until a process that has not forgotten a release is asked for that again.
_SECONDS_TO_NEXT_TRY = 5.0


class StartFailed(ServingError):
    """A shared process that never answered; the message says why."""


class Kind(NamedTuple):
    """Releases of one kind may be in one process."""

    base: SharedBase
    engine: str


class SharedProcess:
    """A process that runs for as long as one release is in it, or on its way into it."""

    def __init__(
        self,
        kind: Kind,
        starting: "asyncio.Future[EngineProcess | AdoptedEngine]",
        seconds_between_checks: float,
    ) -> None:
        self.kind = kind
        # It ended, or is being ended: nobody may come any more.
        self.is_over = False
        self._pause = seconds_between_checks
        # The model of each release that is in it, or on its way into it, by package.
        self._models: dict[str, str] = {}
        self._coming: dict[str, asyncio.Task[None]] = {}
        # Those that it is to forget, and may still have.
        self._going: set[str] = set()
        # Those that it did not forget when it was asked: nobody else may come meanwhile.
        self._unforgotten: set[str] = set()
        self._starting = starting
        self._living = asyncio.create_task(self._live())
        # The event loop holds tasks weakly.
        self._leaving: set[asyncio.Task[None]] = set()
        self._asking_again: set[asyncio.Task[None]] = set()

    @classmethod
    def begin(
        cls,
        kind: Kind,
        start: Coroutine[Any, Any, EngineProcess],
        seconds_between_checks: float,
    ) -> Self:
        """One that is being started."""
        return cls(kind, asyncio.create_task(start), seconds_between_checks)

    @classmethod
    def adopt(
        cls, kind: Kind, process: AdoptedEngine, seconds_between_checks: float
    ) -> Self:
        """One that an endpoint which was killed has left running."""
        starting = asyncio.get_running_loop().create_future()
        starting.set_result(process)
        return cls(kind, starting, seconds_between_checks)

    def has_room(self, contents: EngineContents) -> bool:
        """Whether that release may come: no other one of its model is there."""
        if self.is_over or self._unforgotten:
            return False
        package = contents.package_sha256
        is_there = package in self._models or package in self._going
        return not is_there and contents.model not in self._models.values()

    @property
    def is_started(self) -> bool:
        """Whether it answers, so that a release is attached at once."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Its process id; 0 while there is none."""
        return 0 if self._process is None else self._process.pid

    @property
    def address(self) -> EngineAddress:
        """How the process itself is called, and none of its releases."""
        process = self._process
        if process is None:
            return EngineAddress(0, "")
        address = process.address
        return replace(address, prefix="")

    def reserve(self, contents: EngineContents) -> None:
        """Keep a place for that release, so that it is not ended meanwhile."""
        self._models[contents.package_sha256] = contents.model

    async def wait_until_started(self) -> None:
        """Wait until it answers; `StartFailed` where it does not."""
        try:
            # Shielded: others may wait for it who still want it.
            await asyncio.shield(self._starting)
        except (AssayError, OSError) as error:
            # Now: others who hear it look for another process at once.
            self.is_over = True
            raise StartFailed(str(error)) from error

    async def attach(self, attachment: Attachment) -> None:
        """Have that release loaded; what `attach` raises."""
        package = attachment.contents.package_sha256
        # A task of its own: what was asked for is answered before it can be taken back.
        coming = asyncio.create_task(attach(self.address, attachment))
        self._coming[package] = coming
        coming.add_done_callback(lambda _: self._coming.pop(package, None))
        await asyncio.shield(coming)

    async def leave(self, package_sha256: str, *, at_once: bool = False) -> None:
        """Have that release forgotten; with the last one the process ends."""
        model = self._models.pop(package_sha256, None)
        if model is None:
            return
        if not self._models:
            # At once: who comes from now on needs another process.
            self.is_over = True
            work = self.end(at_once=at_once)
        else:
            work = self._forget(package_sha256)
        self._going.add(package_sha256)
        leaving = asyncio.create_task(work)
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        leaving.add_done_callback(lambda _: self._going.discard(package_sha256))
        # Shielded: a release that is not wanted leaves, whoever waits for that.
        await asyncio.shield(leaving)

    async def wait_for_end(self) -> str:
        """Wait until it ends or hangs; a sentence that says which."""
        return await asyncio.shield(self._living)

    async def end(self, *, at_once: bool) -> None:
        """End it; no process is left afterwards."""
        self.is_over = True
        self._living.cancel()
        for asking in self._asking_again:
            asking.cancel()
        # A start that is cancelled ends its process itself.
        self._starting.cancel()
        await asyncio.gather(
            self._living,
            self._starting,
            *self._asking_again,
            return_exceptions=True,
        )
        process = self._process
        if process is not None:
            await process.stop(at_once=at_once)

    @property
    def _process(self) -> EngineProcess | AdoptedEngine | None:
        task = self._starting
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    async def _live(self) -> str:
        try:
            process = await asyncio.shield(self._starting)
        except (AssayError, OSError) as error:
            self.is_over = True
            return str(error)
        end = asyncio.create_task(process.wait_for_end())
        hang = asyncio.create_task(wait_until_hung(self.address, self._pause))
        try:
            await asyncio.wait({end, hang}, return_when=asyncio.FIRST_COMPLETED)
            self.is_over = True
            if end.done():
                return end.result()
            await process.stop(at_once=True)
            return hang.result()
        finally:
            end.cancel()
            hang.cancel()

    async def _forget(self, package_sha256: str) -> None:
        coming = self._coming.get(package_sha256)
        if coming is not None:
            await asyncio.wait({coming}, timeout=_SECONDS_TO_LOAD)
        if self.is_over or await detach(self.address, package_sha256):
            return
        # Nobody asks it for that release. Where it hangs, its health checks end it.
        self._unforgotten.add(package_sha256)
        say(
            f"Shared engine process {self.pid} did not yet forget package "
            f"{package_sha256[:12]}: it takes no other release until it has"
        )
        asking = asyncio.create_task(self._ask_again(package_sha256))
        self._asking_again.add(asking)
        asking.add_done_callback(self._asking_again.discard)

    async def _ask_again(self, package_sha256: str) -> None:
        """Ask it until it has forgotten that release, or is over."""
        while not self.is_over:
            await asyncio.sleep(_SECONDS_TO_NEXT_TRY)
            if await detach(self.address, package_sha256):
                self._unforgotten.discard(package_sha256)
                say(
                    f"Shared engine process {self.pid} forgot package "
                    f"{package_sha256[:12]}: it takes other releases again"
                )
                return
