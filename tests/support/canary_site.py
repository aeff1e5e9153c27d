"""The endpoint's app over stand-ins for engines, with a release that is watched."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
from fastapi import FastAPI

from pipelines.values.dataset import Message
from registry.ledger.entries import Release
from registry.ledger.state import RecordedRelease
from registry.release.canary_counts import CanaryReport, Stage
from registry.release.canary_signals import find_signals
from registry.release.known_answers import KnownAnswer
from serving.endpoint.additions import Additions
from serving.endpoint.canary_lane import watched_lane
from serving.endpoint.canary_watch import CanaryWatch, Sides, Watched
from serving.endpoint.engine_process import AdoptedEngine
from serving.endpoint.engine_record import EngineRecord
from serving.endpoint.lanes import Branch, Lane, Lanes, Target
from serving.endpoint.limits import Limits
from serving.endpoint.loaded_engine import LoadedEngine
from serving.endpoint.loading import EngineContext
from serving.endpoint.need import Need
from serving.endpoint.release_engine import ReleaseEngine
from serving.endpoint.routes import create_app
from serving.endpoint.upstream import EngineAddress
from serving.endpoint.verify import VerifiedRelease
from tests.support.canaries import plan
from tests.support.fake_endpoint import MODEL, release_of
from tests.support.standin_engine import REPLAYED, StandIn
from tests.support.waiting import SECONDS_AT_MOST

if TYPE_CHECKING:
    from pipelines.values.base_manifest import BaseModelManifest

SERVING, CANDIDATE, BASELINE = "1", "2", "1"


@dataclass
class Site:
    """The endpoint's app over stand-ins for engines."""

    serving: StandIn
    candidate: StandIn
    baseline: StandIn
    lanes: Lanes
    watch: CanaryWatch
    client: httpx.AsyncClient
    app: FastAPI

    async def ask(self, text: str = "hello", **fields: object) -> httpx.Response:
        messages = [{"role": "user", "content": text}]
        body = {"model": MODEL, "messages": messages, **fields}
        return await self.client.post("/v1/chat/completions", json=body)

    async def ask_many(self, count: int, **fields: Any) -> Counter[str]:
        """The versions that answered; every request is answered."""
        answers = [await self.ask(**fields) for _ in range(count)]
        assert {answer.status_code for answer in answers} == {200}
        return Counter(answer.headers["x-assay-release"] for answer in answers)

    async def rate(
        self, body: object, address: str = "127.0.0.1", **headers: str
    ) -> httpx.Response:
        """What a client of that address hears of its rating."""
        transport = httpx.ASGITransport(self.app, client=(address, 1))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://endpoint"
        ) as client:
            return await client.post("/v1/feedback", json=body, headers=headers)

    def worse(self) -> set[str]:
        """The signals that abort."""
        findings = find_signals(self.watch.watched.plan, self.watch.report())
        return {each.signal for each in findings if each.answer == "worse"}

    async def settled(self, requests: int) -> CanaryReport:
        """The report once so many requests of each side are counted."""
        async with asyncio.timeout(SECONDS_AT_MOST):
            while True:
                report = self.watch.report()
                sides = report.candidate.requests, report.baseline.requests
                if min(sides) >= requests:
                    return report
                await asyncio.sleep(0.01)


def engine(begun: int, release: Release, stand_in: StandIn) -> ReleaseEngine:
    """An engine that is taken for one that answers on the port of a stand-in."""
    recorded = RecordedRelease(
        begun=begun,
        release=release,
        judged=1,
        by="ann",
        reason_sha256="0" * 64,
        at=datetime.now(UTC),
    )
    context = EngineContext(Path("nowhere"), Limits(), lambda: None)
    made = ReleaseEngine(Need(recorded, is_pending=True), context)
    # By itself it would fail, since its package is not there.
    made._keeping.cancel()
    made.state, made.port = "ready", stand_in.port
    made._address = EngineAddress(stand_in.port, "token")
    known = KnownAnswer(
        messages=(Message(role="user", content=REPLAYED),),
        text=stand_in.text,
        max_tokens=8,
    )
    base = cast("BaseModelManifest", None)
    verified = VerifiedRelease(release, Path("nowhere"), base, (known,))
    record = EngineRecord(
        pid=0,
        started="",
        port=stand_in.port,
        token="token",
        loaded=made.need.contents,
    )
    made._loaded = LoadedEngine(AdoptedEngine(record), verified, release.spec)
    return made


@asynccontextmanager
async def site(
    weight: int,
    *,
    stage: Stage = "canary",
    is_beside: bool = True,
    copied: int = 100,
    cache_bytes: int = 0,
    additions: Additions | None = None,
) -> AsyncIterator[Site]:
    """A release that has so much of the traffic."""
    stand_ins = StandIn(), StandIn(), StandIn()
    async with AsyncExitStack() as stack:
        for stand_in in stand_ins:
            await stack.enter_async_context(stand_in.running())
        candidate_release = release_of(CANDIDATE)
        releases = release_of(SERVING), candidate_release, release_of(BASELINE)
        engines = [
            engine(begun, release, stand_in)
            for begun, release, stand_in in zip(
                (3, 7, 3), releases, stand_ins, strict=True
            )
        ]
        serving, candidate, baseline = engines
        recorded = candidate.need.recorded
        canary = plan(copied_percent=copied)
        watched = Watched(recorded, canary, stage, step=9, weight=weight)
        watch = CanaryWatch(watched)
        sides = Sides(
            candidate, baseline if is_beside else serving, is_beside=is_beside
        )
        main = serving
        if stage == "bake":
            sides, main = Sides(candidate, serving), candidate
        watch.follow(watched, sides)
        lane = watched_lane(Lane((Branch(Target(main)),)), watch)
        lanes = Lanes({MODEL: lane})
        app = create_app(lanes, Limits(), additions, cache_bytes)
        transport = httpx.ASGITransport(app)
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://endpoint")
        )
        try:
            yield Site(*stand_ins, lanes=lanes, watch=watch, client=client, app=app)
        finally:
            for each in engines:
                await each.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]
