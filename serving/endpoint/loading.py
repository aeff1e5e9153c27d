"""From a need of the ledger to a process that gives the answers that it should.

verify the package ─▶ adopt a running process or start one ─▶ compare its spec ─▶ probe
                    ▲                     or come into one that is shared
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import ServingError
from core.log import say
from pipelines.engines import TRANSFORMERS
from pipelines.values.fixed_prompt import FILE as PROMPT
from pipelines.values.serving_spec import ServingSpec
from serving.endpoint.engine_choice import EngineWish
from serving.endpoint.engine_process import AdoptedEngine, EngineOrder, EngineProcess
from serving.endpoint.engine_record import EngineRecord, started_at, write_record
from serving.endpoint.health import SECONDS_FOR_A_CHECK
from serving.endpoint.leftovers import end_leftover
from serving.endpoint.limits import Limits
from serving.endpoint.loaded_engine import LoadedEngine, end_process
from serving.endpoint.need import Need
from serving.endpoint.parity import may_show_parity, show_parity
from serving.endpoint.probe import probe, probe_known
from serving.endpoint.shared.attaching import Attachment, Refused
from serving.endpoint.shared.place import Place
from serving.endpoint.shared.processes import SeatOrder, SharedProcesses
from serving.endpoint.shared.seat import Seat
from serving.endpoint.spare_engines import SpareEngines
from serving.endpoint.upstream import EngineAddress, EngineRequest, exchange
from serving.endpoint.verify import VerifiedRelease, check_bytes, verify
from serving.openai_schema.models import ModelList
from serving.package import WEIGHTS


class NotVerified(ServingError):
    """A release whose package may not be served, by whatever engine; the message says why."""


@dataclass(frozen=True)
class EngineContext:
    """What an engine needs of the endpoint around it."""

    home: Path
    limits: Limits
    on_change: Callable[[], None]
    spares: SpareEngines = field(default_factory=lambda: SpareEngines(0))
    engines: EngineWish = field(default_factory=EngineWish)
    shared: SharedProcesses = field(default_factory=SharedProcesses)


@dataclass(frozen=True)
class Loading:
    """One try to load a release, in one place."""

    need: Need
    context: EngineContext
    # Where its answers are to be computed.
    place: Place
    # Beside a process that answers already: it takes no spare one, and is this engine or nothing.
    is_take_over: bool = False
    # Whether such a place gave this endpoint drawn answers of the release.
    was_shown: bool = False

    async def adopt(self, leftover: EngineRecord) -> LoadedEngine | None:
        """The process of an earlier endpoint, once it says itself what it has loaded.

        None where it does not, or does not give scored answers: it is ended then.
        """
        verified = await self._verify()
        process = self.context.shared.find_left(leftover)
        try:
            async with asyncio.timeout(SECONDS_FOR_A_CHECK):
                spec = await self._check_spec(process.address, verified)
            was_probed = leftover.is_probed
            loaded = await self._probe(process, verified, spec, was_probed=was_probed)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, another one is started
            fact = f"{type(error).__name__}: {str(error)[:300]}"
            say(
                f"{self.need.label} is not taken over from engine process {leftover.pid}: {fact}"
            )
            await self._end_leftover(leftover)
            return None
        # It hangs, or nobody needs it any more.
        except BaseException:
            await self._end_leftover(leftover)
            raise
        say(
            f"{self.need.label} is taken over from engine process {leftover.pid}, "
            "which was left running"
        )
        return loaded

    async def start(self) -> LoadedEngine:
        """A new process or a spare one; `ServingError` where it is not as it should be.

        `NotVerified` where its package is not, before anything is started.
        """
        verified = await self._verify()
        process: EngineProcess | Seat
        if self.place.is_shared:
            process = await self._sit_down(verified)
        else:
            process = await self._start_process(await self._order(verified))
        try:
            # Again: bytes that were exchanged while they were being read must not answer.
            await asyncio.to_thread(check_bytes, verified.folder, verified.release)
            spec = await self._check_spec(process.address, verified)
            # Last: the endpoint that adopts a recorded engine does not look at these bytes again.
            return await self._record_and_probe(process, verified, spec)
        # BaseException: a load that is cancelled must leave no process either.
        except BaseException:
            await end_process(process, self.context.home, at_once=True)
            raise

    @property
    def is_quick(self) -> bool:
        """Whether a process runs that takes it, so that none is started."""
        place = self.place
        if not place.is_shared:
            return False
        contents = self.need.contents
        shared = self.context.shared
        return shared.has_room(contents, place.engine)

    async def _end_leftover(self, leftover: EngineRecord) -> None:
        await end_leftover(self.context.home, leftover, self.context.shared)

    async def _start_process(self, order: EngineOrder) -> EngineProcess:
        if self.is_take_over:
            return await EngineProcess.start(order)
        spares = self.context.spares
        return await spares.start_engine(order)

    async def _sit_down(self, verified: VerifiedRelease) -> Seat:
        """A place in a shared process; `Refused` where it is no release for one."""
        if (verified.folder / WEIGHTS / PROMPT).exists():
            raise Refused("it is a prompt, and has no adapter to put beside others")
        context = self.context
        order = SeatOrder(
            Attachment(self.need.contents, verified.folder),
            self.place.engine,
            context.home,
            context.limits.seconds_between_health_checks,
            lambda: self._start_shared(verified),
        )
        return await context.shared.take(order)

    async def _start_shared(self, verified: VerifiedRelease) -> EngineProcess:
        home = self.context.home
        arguments = await asyncio.to_thread(verified.shared_arguments, home)
        label = f"a shared process of {verified.base_name}"
        order = self._complete(arguments, label)
        return await self._start_process(order)

    def _complete(self, arguments: list[str], label: str) -> EngineOrder:
        words = [*arguments, "--engine", self.place.engine]
        # What another engine scored is asked for scored answers before transformers stands in.
        scored = self.need.recorded.release.spec.engine
        is_scored_by_other = scored != TRANSFORMERS
        if self.is_take_over or self.place.is_shared or is_scored_by_other:
            words.append("--no-stand-in")
        grace = self.context.limits.seconds_without_an_endpoint
        return EngineOrder(words, label, grace)

    async def _verify(self) -> VerifiedRelease:
        # In a thread: it reads every byte of the package.
        need = self.need
        release = need.recorded.release
        home = self.context.home
        try:
            return await asyncio.to_thread(verify, home, release, need.signer)
        except ServingError as error:
            raise NotVerified(str(error)) from error

    async def _order(self, verified: VerifiedRelease) -> EngineOrder:
        home = self.context.home
        arguments = await asyncio.to_thread(
            verified.arguments,
            home,
            with_adapter=self.need.with_adapter,
        )
        return self._complete(arguments, self.need.label)

    async def _record_and_probe(
        self,
        process: EngineProcess | Seat,
        verified: VerifiedRelease,
        spec: ServingSpec,
    ) -> LoadedEngine:
        home = self.context.home
        record = self._record(process, spec)
        await asyncio.to_thread(write_record, home, record)
        loaded = await self._probe(process, verified, spec, was_probed=self.was_shown)
        # Where the endpoint is killed before this, the next one asks everything again.
        probed = record.model_copy(update={"is_probed": True})
        await asyncio.to_thread(write_record, home, probed)
        return loaded

    def _record(self, process: EngineProcess | Seat, spec: ServingSpec) -> EngineRecord:
        return EngineRecord(
            pid=process.pid,
            started=started_at(process.pid),
            port=process.address.port,
            token=process.address.token,
            loaded=self.need.contents,
            engine=spec.engine,
            is_shared=self.place.is_shared,
        )

    async def _check_spec(
        self, engine: EngineAddress, verified: VerifiedRelease
    ) -> ServingSpec:
        """What the engine itself says that it loaded; `ServingError` unless that was released."""
        name = verified.base_name
        spec = verified.base_spec
        if self.need.with_adapter:
            name = verified.release.model
            spec = verified.release.spec
        loaded = (await _read_specs(engine)).get(name)
        fact = "nothing of that name"
        if loaded is not None:
            wanted = self.place.engine
            is_wanted = loaded.engine == wanted or not self.is_take_over
            is_scored = loaded == spec and is_wanted
            if is_scored or may_show_parity(spec, loaded, wanted):
                return loaded
            fact = "; ".join(spec.differences(loaded)) or f"not {wanted}"
        raise ServingError(
            f"its engine loaded another configuration than was released: {fact}"
        )

    async def _probe(
        self,
        process: EngineProcess | AdoptedEngine | Seat,
        verified: VerifiedRelease,
        spec: ServingSpec,
        *,
        was_probed: bool,
    ) -> LoadedEngine:
        """The process, once scored answers came back from it as they should."""
        loaded = LoadedEngine(process, verified, spec)
        # Known answers are the adapter's.
        if not self.need.with_adapter:
            return loaded
        is_new = not self.need.recorded.is_completed
        is_by_another = spec.engine != verified.release.spec.engine
        engine = process.address
        # Beside others it is computed in another way than when it was scored, if by that engine.
        if is_by_another or self.place.is_shared:
            # One that is left from an earlier endpoint may have been asked drawn ones by that. A
            # start by the engine that scored is not to take long: what had full traffic gave them.
            is_later = is_by_another or self.is_take_over
            asks_drawn = is_new or (is_later and not was_probed)
            fact = await show_parity(engine, verified, spec, is_new=asks_drawn)
            beside = ", in a process with others" if self.place.is_shared else ""
            loaded.detail = f"{fact}{beside}"
        # What had full traffic once was probed before that, be it by an engine that stands in.
        elif is_new or self.is_take_over:
            loaded.detail = await probe(engine, verified)
        # Until now perhaps only what stood in for it was asked on this machine.
        elif spec.engine != TRANSFORMERS and not was_probed:
            loaded.detail = await probe_known(engine, verified)
        return loaded


async def _read_specs(engine: EngineAddress) -> dict[str, ServingSpec]:
    """What answers under each name, as the engine itself says."""
    request = EngineRequest("GET", "/v1/models")
    async with exchange(engine, request) as reply:
        body = await reply.read_body()
    models = ModelList.model_validate_json(body)
    return {card.id: card.spec for card in models.data}
