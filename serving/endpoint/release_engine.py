"""The engine of one release, kept running.

verify the package ─▶ adopt a running process or start one ─▶ compare its spec ─▶ probe
─▶ watch it answer ─▶ it ended or hangs ─▶ pause ─▶ from the beginning
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from core.errors import AssayError, ServingError
from pipelines.values.serving_spec import ServingSpec
from registry.ledger.entries import PublicKey
from registry.ledger.state import LedgerState, RecordedRelease
from registry.release.following import EngineState
from serving.endpoint.engine_process import AdoptedEngine, EngineOrder, EngineProcess
from serving.endpoint.engine_record import (
    EngineContents,
    EngineRecord,
    forget_record,
    started_at,
    write_record,
)
from serving.endpoint.limits import Limits
from serving.endpoint.package_watch import PackageWatch
from serving.endpoint.parity import may_show_parity, show_parity
from serving.endpoint.probe import probe
from serving.endpoint.spare_engines import SpareEngines
from serving.endpoint.upstream import (
    EngineAddress,
    EngineLost,
    EngineRequest,
    exchange,
)
from serving.endpoint.verify import VerifiedRelease, check_bytes, verify
from serving.engines import TRANSFORMERS
from serving.log import say
from serving.openai_schema.models import ModelList

# Seconds between two starts.
_LONGEST_PAUSE = 30.0
# So many ends of its process make an alarm.
_ENDS_IN_A_ROW = 3
# Seconds: a process that ran so long starts the count of ends again.
_STEADY = 60.0
# So many in a row, and the process counts as hung.
_MISSED_CHECKS = 3
_SECONDS_FOR_A_CHECK = 10.0

Phase = Literal["loading", "ready", "failed"]


@dataclass(frozen=True)
class Need:
    """A release that must be loaded, or its base alone."""

    recorded: RecordedRelease
    with_adapter: bool = True
    # It has had no traffic: its first failure is its last.
    is_pending: bool = False
    # The key that signed its package, and the entry that said that others may have that key.
    signer: PublicKey | None = None
    signer_compromised_at: int | None = None
    # The release on its way that it is compared with, by the generation at which that began: what
    # serves is loaded a second time then. 0: it is loaded to serve.
    beside: int = 0

    def with_signer(self, ledger_state: LedgerState) -> "Need":
        """The same, with what the ledger says now of the key that signed its package."""
        key_id = self.recorded.release.signed_by
        if key_id is None:
            return self
        return replace(
            self,
            signer=ledger_state.known_key(key_id),
            signer_compromised_at=ledger_state.compromised_at(key_id),
        )

    @property
    def key(self) -> tuple[int, bool, int]:
        """What identifies its engine."""
        return self.recorded.begun, self.with_adapter, self.beside

    @property
    def contents(self) -> EngineContents:
        """What its engine has loaded."""
        release = self.recorded.release
        return EngineContents.of(release, with_adapter=self.with_adapter)


@dataclass(frozen=True)
class EngineContext:
    """What an engine needs of the endpoint around it."""

    home: Path
    limits: Limits
    on_change: Callable[[], None]
    spares: SpareEngines = field(default_factory=lambda: SpareEngines(0))
    # What computes answers, where it gives the scored ones.
    engine: str = TRANSFORMERS


@dataclass(frozen=True)
class EngineStart:
    """With what an engine begins its life."""

    # An engine that is to have the processor for itself until it is settled.
    waits_for: "ReleaseEngine | None" = None
    # The process that an earlier endpoint left running with the same contents.
    leftover: EngineRecord | None = None


class ReleaseEngine:
    """An engine process for as long as its release is needed."""

    def __init__(
        self, need: Need, context: EngineContext, start: EngineStart | None = None
    ) -> None:
        start = start or EngineStart()
        self.need = need
        self.state: Phase = "loading"
        # Why it failed, or how its probe went.
        self.detail = ""
        # The name under which its base answers; empty until it is loaded.
        self.base_name = ""
        # Of its process; 0 while there is none that answers.
        self.port = 0
        self.pid = 0
        self.package = PackageWatch(context.home, need.recorded.release, need.signer)
        # What its processes compute by, and what the latest of them said that it loaded.
        self._engine = context.engine
        self._loaded = need.recorded.release.spec
        self._token = ""
        self._verified: VerifiedRelease | None = None
        self._context = context
        self._waits_for = start.waits_for
        self._leftover = start.leftover
        # How often its process ended by itself, ever and in a row.
        self.restarts = 0
        self._ends = 0
        # Requests that it is answering.
        self._busy = 0
        self._idle = asyncio.Event()
        # It has answered once, or failed at its first start.
        self._settled = asyncio.Event()
        # There is a reason to try again before the pause is over.
        self._hurry = asyncio.Event()
        self._idle.set()
        self._keeping = asyncio.create_task(self._keep_running())

    @property
    def label(self) -> str:
        """What a log line and an alarm call it."""
        release = self.need.recorded.release
        if self.need.beside:
            return f"the baseline, version {release.version} of {release.model}"
        if self.need.with_adapter:
            return f"version {release.version} of {release.model}"
        return f"the base of {release.model}"

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        # Between the end of its process and the next state it has no port.
        has_process = self.port != 0
        return has_process and self.state == "ready"

    @property
    def requests(self) -> int:
        """How many it is answering."""
        return self._busy

    @property
    def address(self) -> EngineAddress:
        """How its process is called, while there is one."""
        return EngineAddress(self.port, self._token)

    @property
    def is_coming_back(self) -> bool:
        """Whether it answered before and is expected to answer in a moment.

        It is being adopted from an endpoint that was killed, or started again for the first time
        since it ended.
        """
        # Its process ended, and the next line of `_keep_running` will say that it loads.
        if self.state == "ready":
            return self.port == 0
        if self.state != "loading":
            return False
        is_adopting = self._ends == 0 and self._leftover is not None
        return is_adopting or self._ends == 1

    @property
    def has_leftover(self) -> bool:
        """Whether a process of an earlier endpoint is still to be adopted."""
        return self._leftover is not None

    @property
    def alarm(self) -> str | None:
        """What a person should look at.

        A release with traffic that does not load or that keeps ending, or a damaged package.
        """
        name = f"{self.label[0].upper()}{self.label[1:]}"
        if self.is_ready:
            return self._alarm_while_ready(name)
        keeps_ending = self._ends >= _ENDS_IN_A_ROW
        is_down = self.state == "failed" or keeps_ending
        if self.need.is_pending or not is_down:
            return None
        return f"{name} does not run: {self.detail}"

    def _alarm_while_ready(self, name: str) -> str | None:
        fault = self.package.fault
        if fault:
            return f"{name} still serves, but its package is damaged: {fault}"
        compromised_at = self.need.signer_compromised_at
        # It was judged before that, and its bytes are in the ledger: it is not taken away.
        if compromised_at is not None:
            return (
                f"{name} still serves, and the key that signed its package was revoked as "
                f"compromised (entry {compromised_at}): release another version, "
                "or `assay revoke` this one."
            )
        return None

    def to_state(self) -> EngineState:
        """For the controller."""
        return EngineState(
            begun=self.need.recorded.begun,
            state=self.state,
            detail=self.detail,
        )

    def update(self, need: Need) -> None:
        """Take what the ledger says now: a pending release may have traffic.

        One that had given up starts again then.
        """
        was_pending = self.need.is_pending
        had_given_up = was_pending and self.state == "failed"
        self.need = need
        if had_given_up and not need.is_pending:
            self._keeping = asyncio.create_task(self._keep_running())

    async def look_at_package(self) -> None:
        """Report when it is damaged, and when it is whole again.

        A start that waits for its next try then begins at once.
        """
        earlier_fault = self.package.fault
        fault = await asyncio.to_thread(self.package.look)
        if fault and fault != earlier_fault:
            say(f"ALARM: {fault}")
        if earlier_fault and not fault:
            say(f"The package of {self.label} is whole again")
            self._hurry.set()

    async def wait_until_settled(self) -> None:
        """Wait until it answers, or until its first start has failed."""
        await self._settled.wait()

    @contextmanager
    def count_request(self) -> Iterator[None]:
        """Count a request for as long as the context lasts: a busy engine is not retired."""
        self._busy += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if self._busy == 0:
                self._idle.set()

    async def replay(self) -> str:
        """Probe it once more while it answers; how that went.

        `ServingError` where it does not answer as it was scored any more, or does not run.
        """
        if self._verified is None or not self.is_ready:
            raise ServingError(f"{self.label} does not run")
        return await probe(self.address, self._verified)

    async def retire(self) -> None:
        """End it once its last answer is complete, or the time for that is over."""
        limit = self._context.limits.seconds_to_drain
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), limit)
        await self.close()

    async def close(self) -> None:
        """End it now."""
        # Whoever waits for it need not wait any more.
        self._settled.set()
        self._keeping.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeping
        if self._leftover is not None:
            await end_leftover(self._context.home, self._leftover)

    async def _keep_running(self) -> None:
        """Run it again whenever it ends, with longer and longer pauses.

        A pending release has one try.
        """
        while True:
            started = time.monotonic()
            reason = await self._run()
            self.restarts += 1
            seconds = time.monotonic() - started
            was_ready = self.state == "ready"
            is_steady = seconds > _STEADY
            self._ends = 1 if was_ready and is_steady else self._ends + 1
            gives_up = self.need.is_pending
            is_restarting = was_ready and not gives_up
            self._set_state("loading" if is_restarting else "failed", reason)
            if gives_up:
                return
            await self._pause()

    async def _pause(self) -> None:
        """Wait before the next try, unless there is a reason to hurry."""
        # The first restart is immediate; then 1 s, 2 s, 4 s, …
        seconds = 0.0
        if self._ends > 1:
            seconds = min(_LONGEST_PAUSE, 2.0 ** (self._ends - 2))
        self._hurry.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    async def _run(self) -> str:
        """Start it, answer until it ends, and give the reason why it ended."""
        try:
            process = await self._start()
        except AssayError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the engine is tried again
            return f"{type(error).__name__}: {str(error)[:300]}"
        try:
            return await self._watch(process)
        finally:
            self.port = 0
            self.pid = 0
            # Its last answers have had their time: streams end in an error event now, not
            # whenever they like.
            await self._end(process, at_once=self._busy > 0)

    async def _start(self) -> EngineProcess | AdoptedEngine:
        # An adopted process is loaded already: it takes no time from another.
        if self._waits_for is not None and self._leftover is None:
            await self._waits_for.wait_until_settled()
        limit = self._context.limits.seconds_to_load
        try:
            async with asyncio.timeout(limit):
                return await self._load()
        except TimeoutError:
            raise ServingError(f"it was not ready within {limit:.0f} s") from None

    async def _load(self) -> EngineProcess | AdoptedEngine:
        """Verify the package, adopt or start a process, then check what it loaded."""
        home = self._context.home
        # In a thread: it reads every byte of the package.
        need = self.need
        verified = await asyncio.to_thread(
            verify, home, need.recorded.release, need.signer
        )
        try:
            process = await self._open(verified)
        # Also where it ended while it loaded: another library may take the process with it.
        except ServingError as error:
            if not self._goes_back_to_scored(error):
                raise
            return await self._load()
        self.base_name = verified.base_name
        self._verified = verified
        self._token = process.address.token
        self.port = process.address.port
        self.pid = process.pid
        return process

    async def _open(self, verified: VerifiedRelease) -> EngineProcess | AdoptedEngine:
        """A process that gives the answers that it should."""
        process = await self._adopt(verified) or await self._start_process(verified)
        try:
            self.detail = await self._probe(process.address, verified)
        # BaseException: a load that is cancelled must leave no process either.
        except BaseException:
            await self._end(process, at_once=True)
            raise
        return process

    def _goes_back_to_scored(self, error: ServingError) -> bool:
        """Whether the engine that scored is to answer from now on: another one did not."""
        scored = self.need.recorded.release.spec.engine
        if self._engine == scored:
            return False
        say(f"{self.label} is served by {scored}, not by {self._engine}: {error}")
        self._engine = scored
        return True

    async def _adopt(self, verified: VerifiedRelease) -> AdoptedEngine | None:
        """The process of an earlier endpoint, once it says itself what it has loaded.

        One that does not is ended.
        """
        leftover = self._leftover
        if leftover is None:
            return None
        process = AdoptedEngine(leftover)
        try:
            async with asyncio.timeout(_SECONDS_FOR_A_CHECK):
                await self._check_spec(process.address, verified)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, another one is started
            fact = f"{type(error).__name__}: {str(error)[:300]}"
            say(
                f"{self.label} is not taken over from engine process {leftover.pid}: {fact}"
            )
            await end_leftover(self._context.home, leftover)
            self._leftover = None
            return None
        self._leftover = None
        say(
            f"{self.label} is taken over from engine process {leftover.pid}, "
            "which was left running"
        )
        return process

    async def _start_process(self, verified: VerifiedRelease) -> EngineProcess:
        """A new process or a spare one, and the package verified again.

        Bytes that were exchanged while they were being read must not answer.
        """
        home = self._context.home
        grace = self._context.limits.seconds_without_an_endpoint
        arguments = await asyncio.to_thread(
            verified.arguments, home, with_adapter=self.need.with_adapter
        )
        arguments += ["--engine", self._engine]
        order = EngineOrder(arguments, self.label, grace)
        process = await self._context.spares.start_engine(order)
        try:
            await asyncio.to_thread(check_bytes, verified.folder, verified.release)
            await self._check_spec(process.address, verified)
            # Last: the endpoint that adopts a recorded engine does not look at these bytes again.
            record = self._record(process)
            await asyncio.to_thread(write_record, home, record)
        except BaseException:
            await self._end(process, at_once=True)
            raise
        return process

    async def _end(
        self, process: EngineProcess | AdoptedEngine, *, at_once: bool
    ) -> None:
        await process.stop(at_once=at_once)
        forget_record(self._context.home, process.pid)

    def _record(self, process: EngineProcess) -> EngineRecord:
        return EngineRecord(
            pid=process.pid,
            started=started_at(process.pid),
            port=process.address.port,
            token=process.address.token,
            loaded=self.need.contents,
        )

    async def _check_spec(
        self, engine: EngineAddress, verified: VerifiedRelease
    ) -> None:
        """Return only if the engine itself says that it loaded what was released."""
        name = verified.base_name
        spec = verified.base_spec
        if self.need.with_adapter:
            name = verified.release.model
            spec = verified.release.spec
        loaded = (await _read_specs(engine)).get(name)
        fact = "nothing of that name"
        if loaded is not None:
            self._loaded = loaded
            if loaded == spec or may_show_parity(spec, loaded, self._engine):
                return
            fact = "; ".join(spec.differences(loaded))
        raise ServingError(
            f"its engine loaded another configuration than was released: {fact}"
        )

    async def _probe(self, engine: EngineAddress, verified: VerifiedRelease) -> str:
        """How the probe went; empty where there was none."""
        # Known answers are the adapter's.
        if not self.need.with_adapter:
            return ""
        is_new = not self.need.recorded.is_completed
        if self._loaded != verified.release.spec:
            return await show_parity(engine, verified, self._loaded, is_new=is_new)
        # What had full traffic once was probed before that.
        return await probe(engine, verified) if is_new else ""

    async def _watch(self, process: EngineProcess | AdoptedEngine) -> str:
        """Be ready until the process ends or hangs; gives which of them."""
        self._set_state("ready", self.detail)
        end = asyncio.create_task(process.wait_for_end())
        hang = asyncio.create_task(self._wait_until_hung(process.address))
        try:
            await asyncio.wait({end, hang}, return_when=asyncio.FIRST_COMPLETED)
            return end.result() if end.done() else hang.result()
        finally:
            end.cancel()
            hang.cancel()

    async def _wait_until_hung(self, engine: EngineAddress) -> str:
        """Wait until it has not answered several checks in a row."""
        missed = 0
        while missed < _MISSED_CHECKS:
            await asyncio.sleep(self._context.limits.seconds_between_health_checks)
            missed = 0 if await _is_alive(engine) else missed + 1
        return f"its engine process did not answer {missed} health checks in a row"

    def _set_state(self, state: Phase, detail: str) -> None:
        self.state = state
        self.detail = detail
        if state != "loading":
            self._settled.set()
        # The fleet moves traffic by this.
        self._context.on_change()
        line = f"{self.label} is {state}"
        say(f"{line}: {detail}" if detail else line)


async def end_leftover(home: Path, leftover: EngineRecord) -> None:
    """End a process that an earlier endpoint has left running."""
    await AdoptedEngine(leftover).stop()
    forget_record(home, leftover.pid)


async def _read_specs(engine: EngineAddress) -> dict[str, ServingSpec]:
    """What answers under each name, as the engine itself says."""
    request = EngineRequest("GET", "/v1/models")
    async with exchange(engine, request) as reply:
        body = await reply.read_body()
    models = ModelList.model_validate_json(body)
    return {card.id: card.spec for card in models.data}


async def _is_alive(engine: EngineAddress) -> bool:
    request = EngineRequest("GET", "/readyz")
    try:
        async with (
            asyncio.timeout(_SECONDS_FOR_A_CHECK),
            exchange(engine, request) as reply,
        ):
            return reply.status == 200
    except (EngineLost, TimeoutError):
        return False
