"""From a need of the ledger to a process that gives the answers that it should.

verify the package ─▶ adopt a running process or start one ─▶ compare its spec ─▶ probe
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import ServingError
from pipelines.values.serving_spec import ServingSpec
from serving.endpoint.engine_choice import EngineChoice
from serving.endpoint.engine_process import AdoptedEngine, EngineOrder, EngineProcess
from serving.endpoint.engine_record import EngineRecord, started_at, write_record
from serving.endpoint.leftovers import end_leftover
from serving.endpoint.limits import Limits
from serving.endpoint.loaded_engine import (
    SECONDS_FOR_A_CHECK,
    LoadedEngine,
    end_process,
)
from serving.endpoint.need import Need
from serving.endpoint.parity import may_show_parity, show_parity
from serving.endpoint.probe import probe
from serving.endpoint.spare_engines import SpareEngines
from serving.endpoint.upstream import EngineAddress, EngineRequest, exchange
from serving.endpoint.verify import VerifiedRelease, check_bytes, verify
from serving.log import say
from serving.openai_schema.models import ModelList


@dataclass(frozen=True)
class EngineContext:
    """What an engine needs of the endpoint around it."""

    home: Path
    limits: Limits
    on_change: Callable[[], None]
    spares: SpareEngines = field(default_factory=lambda: SpareEngines(0))
    choice: EngineChoice = field(default_factory=EngineChoice)


@dataclass(frozen=True)
class Loading:
    """One try to load a release, by one engine."""

    need: Need
    context: EngineContext
    # What is to compute its answers.
    engine: str
    # Beside a process that answers already: it takes no spare one, and is this engine or nothing.
    is_take_over: bool = False

    async def adopt(self, leftover: EngineRecord) -> LoadedEngine | None:
        """The process of an earlier endpoint, once it says itself what it has loaded.

        None where it does not, or does not give scored answers: it is ended then.
        """
        verified = await self._verify()
        process = AdoptedEngine(leftover)
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
            await end_leftover(self.context.home, leftover)
            return None
        # It hangs, or nobody needs it any more.
        except BaseException:
            await end_leftover(self.context.home, leftover)
            raise
        say(
            f"{self.need.label} is taken over from engine process {leftover.pid}, "
            "which was left running"
        )
        return loaded

    async def start(self) -> LoadedEngine:
        """A new process or a spare one; `ServingError` where it is not as it should be."""
        verified = await self._verify()
        order = await self._order(verified)
        if self.is_take_over:
            process = await EngineProcess.start(order)
        else:
            process = await self.context.spares.start_engine(order)
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

    async def _verify(self) -> VerifiedRelease:
        # In a thread: it reads every byte of the package.
        need = self.need
        release = need.recorded.release
        return await asyncio.to_thread(verify, self.context.home, release, need.signer)

    async def _order(self, verified: VerifiedRelease) -> EngineOrder:
        home = self.context.home
        arguments = await asyncio.to_thread(
            verified.arguments, home, with_adapter=self.need.with_adapter
        )
        arguments += ["--engine", self.engine]
        if self.is_take_over:
            arguments.append("--no-stand-in")
        grace = self.context.limits.seconds_without_an_endpoint
        return EngineOrder(arguments, self.need.label, grace)

    async def _record_and_probe(
        self, process: EngineProcess, verified: VerifiedRelease, spec: ServingSpec
    ) -> LoadedEngine:
        home = self.context.home
        record = self._record(process, spec)
        await asyncio.to_thread(write_record, home, record)
        loaded = await self._probe(process, verified, spec, was_probed=False)
        # Where the endpoint is killed before this, the next one asks everything again.
        probed = record.model_copy(update={"is_probed": True})
        await asyncio.to_thread(write_record, home, probed)
        return loaded

    def _record(self, process: EngineProcess, spec: ServingSpec) -> EngineRecord:
        return EngineRecord(
            pid=process.pid,
            started=started_at(process.pid),
            port=process.address.port,
            token=process.address.token,
            loaded=self.need.contents,
            engine=spec.engine,
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
            is_scored = loaded == spec and not self.is_take_over
            if is_scored or may_show_parity(spec, loaded, self.engine):
                return loaded
            fact = "; ".join(spec.differences(loaded)) or f"not {self.engine}"
        raise ServingError(
            f"its engine loaded another configuration than was released: {fact}"
        )

    async def _probe(
        self,
        process: EngineProcess | AdoptedEngine,
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
        engine = process.address
        if spec != verified.release.spec:
            # One that is left from an earlier endpoint may have been asked drawn ones by that.
            asks_drawn = is_new or not was_probed
            loaded.detail = await show_parity(engine, verified, spec, is_new=asks_drawn)
        # What had full traffic once was probed before that.
        elif is_new:
            loaded.detail = await probe(engine, verified)
        return loaded


async def _read_specs(engine: EngineAddress) -> dict[str, ServingSpec]:
    """What answers under each name, as the engine itself says."""
    request = EngineRequest("GET", "/v1/models")
    async with exchange(engine, request) as reply:
        body = await reply.read_body()
    models = ModelList.model_validate_json(body)
    return {card.id: card.spec for card in models.data}
