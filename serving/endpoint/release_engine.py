"""The engine of one release, kept running: verified, loaded, probed, watched, started again when it ends."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.errors import AssayError, ServingError
from pipelines.values.serving_spec import ServingSpec
from registry.ledger.state import RecordedRelease
from registry.release.following import EngineState
from serving.endpoint.engine_process import AdoptedEngine, EngineProcess
from serving.endpoint.engine_record import (
    EngineRecord,
    Loaded,
    forget,
    started_at,
    write_record,
)
from serving.endpoint.limits import Limits
from serving.endpoint.package_watch import PackageWatch
from serving.endpoint.probe import probe
from serving.endpoint.upstream import Address, Asked, EngineLost, exchange
from serving.endpoint.verify import Verified, check_bytes, verify
from serving.log import say
from serving.openai_schema import ModelList

_LONGEST_PAUSE = 30.0
_ENDS_IN_A_ROW = 3
_STEADY = 60.0
_MISSED_CHECKS = 3
_SECONDS_FOR_A_CHECK = 10.0


@dataclass(frozen=True)
class Need:
    """A release that must be loaded, or its base alone."""

    held: RecordedRelease
    with_adapter: bool = True
    is_pending: bool = False
    """It has had no traffic: its first failure is its last."""

    @property
    def key(self) -> tuple[int, bool]:
        """What tells one engine from another."""
        return self.held.begun, self.with_adapter

    @property
    def loaded(self) -> Loaded:
        """What its engine has loaded."""
        return Loaded.of(self.held.release, with_adapter=self.with_adapter)


@dataclass(frozen=True)
class Surroundings:
    """What an engine needs of the endpoint around it."""

    home: Path
    limits: Limits
    on_change: Callable[[], None]


@dataclass(frozen=True)
class Beginning:
    """With what an engine begins its life."""

    after: "ReleaseEngine | None" = None
    """An engine that is to have the processor for itself until it is settled."""
    left: EngineRecord | None = None
    """The process that an earlier endpoint has left running with the same loaded."""


class ReleaseEngine:
    """An engine process for as long as its release is needed."""

    def __init__(
        self, need: Need, around: Surroundings, beginning: Beginning | None = None
    ) -> None:
        self.need = need
        self.state: Literal["loading", "ready", "failed"] = "loading"
        self.detail = ""
        self.base_name = ""
        """The name under which its base answers; empty until it is loaded."""
        self.port = 0
        self.package = PackageWatch(around.home, need.held.release)
        self._token = ""
        self._around = around
        self._after = beginning.after if beginning else None
        self._left = beginning.left if beginning else None
        self._ends = 0
        self._busy = 0
        self._idle = asyncio.Event()
        self._settled = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle.set()
        self._keeping = asyncio.create_task(self._keep())

    @property
    def label(self) -> str:
        """What a log line and an alarm call it."""
        release = self.need.held.release
        return (
            f"version {release.version} of {release.model}"
            if self.need.with_adapter
            else f"the base of {release.model}"
        )

    @property
    def is_ready(self) -> bool:
        """It answers."""
        return self.state == "ready" and self.port != 0

    @property
    def address(self) -> Address:
        """How its process is asked, while there is one."""
        return Address(self.port, self._token)

    @property
    def is_coming_back(self) -> bool:
        """It answered, and is being taken over from an endpoint that was killed, or started again for the first time since it ended."""
        is_expected = self._ends == 1 or (self._ends == 0 and self._left is not None)
        return (self.state == "loading" and is_expected) or (
            self.state == "ready" and self.port == 0
        )

    @property
    def is_found(self) -> bool:
        """A process of an earlier endpoint is there to be taken over."""
        return self._left is not None

    @property
    def alarm(self) -> str | None:
        """What a person should look at: a release with traffic that does not load, or that keeps ending, or a damaged package."""
        name = f"{self.label[0].upper()}{self.label[1:]}"
        if self.is_ready:
            return (
                f"{name} goes on serving, but its package is damaged: {self.package.fault}"
                if self.package.fault
                else None
            )
        if self.need.is_pending or not (
            self.state == "failed" or self._ends >= _ENDS_IN_A_ROW
        ):
            return None
        return f"{name} does not run: {self.detail}"

    def as_state(self) -> EngineState:
        """For the controller."""
        return EngineState(
            begun=self.need.held.begun, state=self.state, detail=self.detail
        )

    def update(self, need: Need) -> None:
        """The ledger went on: what was pending may have traffic now. One that had given up begins again then."""
        had_given_up = self.need.is_pending and self.state == "failed"
        self.need = need
        if had_given_up and not need.is_pending:
            self._keeping = asyncio.create_task(self._keep())

    async def look_at_package(self) -> None:
        """Say when it is damaged, and when it is whole again: then whatever waits for that begins at once."""
        before = self.package.fault
        fault = await asyncio.to_thread(self.package.look)
        if fault and fault != before:
            say(f"ALARM: {fault}")
        if before and not fault:
            say(f"The package of {self.label} is whole again")
            self._hurry.set()

    async def settled(self) -> None:
        """Wait until it answers, or until its first start has failed."""
        await self._settled.wait()

    @contextmanager
    def carrying(self) -> Iterator[None]:
        """Count a request: an engine with one is not ended."""
        self._busy += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if self._busy == 0:
                self._idle.set()

    async def retire(self) -> None:
        """End it once its last answer is whole, or the time for that is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self._around.limits.to_drain)
        await self.close()

    async def close(self) -> None:
        """End it now."""
        self._settled.set()  # whoever waits for it need not any more
        self._keeping.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeping
        if self._left is not None:
            await end_left(self._around.home, self._left)

    async def _keep(self) -> None:
        """Run it again whenever it ends, with longer and longer pauses; a pending release has one try."""
        while True:
            started = time.monotonic()
            why = await self._run()
            was_ready, is_steady = (
                self.state == "ready",
                time.monotonic() - started > _STEADY,
            )
            self._ends = 1 if was_ready and is_steady else self._ends + 1
            gave_up = self.need.is_pending
            self._become("loading" if was_ready and not gave_up else "failed", why)
            if gave_up:
                return
            await self._pause(
                min(_LONGEST_PAUSE, 2.0 ** (self._ends - 2)) if self._ends > 1 else 0
            )

    async def _pause(self, seconds: float) -> None:
        """Before the next try, unless there is a reason to hurry."""
        self._hurry.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    async def _run(self) -> str:
        """Start it, answer until it ends, and say why it ended."""
        try:
            process = await self._start()
        except AssayError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the engine is tried again, and a person is told
            return f"{type(error).__name__}: {str(error)[:300]}"
        try:
            return await self._watch(process)
        finally:
            self.port = 0
            # Whatever it still answers has had its time: the streams end in an error event now, not whenever they like.
            await self._end(process, at_once=self._busy > 0)

    async def _start(self) -> EngineProcess | AdoptedEngine:
        if self._after is not None and self._left is None:
            await self._after.settled()
        limit = self._around.limits.to_load
        try:
            async with asyncio.timeout(limit):
                return await self._load()
        except TimeoutError:
            raise ServingError(f"it was not ready within {limit:.0f} s") from None

    async def _load(self) -> EngineProcess | AdoptedEngine:
        """Verify the package, then take over the process that runs already, or start one; then look at what it loaded."""
        verified = await asyncio.to_thread(
            verify, self._around.home, self.need.held.release
        )
        process = await self._adopted(verified) or await self._started(verified)
        try:
            self.detail = await self._probe(process.address, verified)
        except BaseException:
            await self._end(process, at_once=True)
            raise
        self.base_name, self._token, self.port = (
            verified.base_name,
            process.address.token,
            process.address.port,
        )
        return process

    async def _adopted(self, verified: Verified) -> AdoptedEngine | None:
        """The process of an earlier endpoint, once it says itself what it has loaded. One that does not is ended."""
        if (left := self._left) is None:
            return None
        process = AdoptedEngine(left)
        try:
            async with asyncio.timeout(_SECONDS_FOR_A_CHECK):
                await self._check_spec(process.address, verified)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, another one is started
            say(
                f"{self.label} is not taken over from engine process {left.pid}: {type(error).__name__}: {str(error)[:300]}"
            )
            await end_left(self._around.home, left)
            self._left = None
            return None
        self._left = None
        say(
            f"{self.label} is taken over from engine process {left.pid}, which was left running"
        )
        return process

    async def _started(self, verified: Verified) -> EngineProcess:
        """A new process, verified again: what was exchanged while it was being read must not answer."""
        home, grace = self._around.home, self._around.limits.without_an_endpoint
        arguments = await asyncio.to_thread(
            verified.arguments, home, with_adapter=self.need.with_adapter
        )
        process = await EngineProcess.start(arguments, self.label, grace)
        try:
            await asyncio.to_thread(check_bytes, verified.folder, verified.release)
            await self._check_spec(process.address, verified)
            # Last: whoever takes over what is written down does not look at these bytes again.
            await asyncio.to_thread(write_record, home, self._record(process))
        except BaseException:
            await self._end(process, at_once=True)
            raise
        return process

    async def _end(
        self, process: EngineProcess | AdoptedEngine, *, at_once: bool
    ) -> None:
        await process.stop(at_once=at_once)
        forget(self._around.home, process.pid)

    def _record(self, process: EngineProcess) -> EngineRecord:
        at = process.address
        return EngineRecord(
            pid=process.pid,
            started=started_at(process.pid),
            port=at.port,
            token=at.token,
            loaded=self.need.loaded,
        )

    async def _check_spec(self, engine: Address, verified: Verified) -> None:
        """The engine itself says what it has loaded."""
        release = verified.release
        name, spec = (
            (release.model, release.spec)
            if self.need.with_adapter
            else (verified.base_name, verified.base_spec)
        )
        found = (await _specs(engine)).get(name)
        if found != spec:
            different = (
                "; ".join(spec.differences(found)) if found else "nothing of that name"
            )
            raise ServingError(
                f"its engine loaded another configuration than was released: {different}"
            )

    async def _probe(self, engine: Address, verified: Verified) -> str:
        """What had full traffic once was probed then."""
        if not self.need.with_adapter or self.need.held.is_completed:
            return ""
        return await probe(engine, verified)

    async def _watch(self, process: EngineProcess | AdoptedEngine) -> str:
        self._become("ready", self.detail)
        ended = asyncio.create_task(process.ended())
        hung = asyncio.create_task(self._hangs(process.address))
        try:
            await asyncio.wait({ended, hung}, return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else hung.result()
        finally:
            ended.cancel()
            hung.cancel()

    async def _hangs(self, engine: Address) -> str:
        """Return once it has not answered several checks in a row."""
        missed = 0
        while missed < _MISSED_CHECKS:
            await asyncio.sleep(self._around.limits.between_health_checks)
            missed = 0 if await _is_alive(engine) else missed + 1
        return f"its engine process did not answer {missed} health checks in a row"

    def _become(
        self, state: Literal["loading", "ready", "failed"], detail: str
    ) -> None:
        self.state, self.detail = state, detail
        if state != "loading":
            self._settled.set()
        self._around.on_change()
        say(f"{self.label} is {state}{f': {detail}' if detail else ''}")


async def end_left(home: Path, left: EngineRecord) -> None:
    """End a process that an earlier endpoint has left running."""
    await AdoptedEngine(left).stop()
    forget(home, left.pid)


async def _specs(engine: Address) -> dict[str, ServingSpec]:
    async with exchange(engine, Asked("GET", "/v1/models")) as reply:
        listed = ModelList.model_validate_json(await reply.whole())
    return {card.id: card.spec for card in listed.data}


async def _is_alive(engine: Address) -> bool:
    try:
        async with (
            asyncio.timeout(_SECONDS_FOR_A_CHECK),
            exchange(engine, Asked("GET", "/readyz")) as reply,
        ):
            return reply.status == 200
    except (EngineLost, TimeoutError):
        return False
