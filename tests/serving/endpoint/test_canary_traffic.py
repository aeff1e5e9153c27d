"""Who is asked while a release is watched, what users get of it, and what is counted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from pipelines.values.dataset import Message
from registry.ledger.entries import Release
from registry.ledger.state import RecordedRelease
from registry.release.canary_counts import CanaryReport, Stage
from registry.release.canary_signals import find_signals
from registry.release.known_answers import KnownAnswer
from serving.endpoint.canary_lane import watched_lane
from serving.endpoint.canary_watch import CanaryWatch, Sides, Watched
from serving.endpoint.lanes import Branch, Lane, Lanes, Target
from serving.endpoint.limits import Limits
from serving.endpoint.release_engine import EngineContext, Need, ReleaseEngine
from serving.endpoint.routes import create_app
from serving.endpoint.verify import VerifiedRelease
from tests.support.canaries import plan
from tests.support.fake_endpoint import MODEL, release_of
from tests.support.standin_engine import REPLAYED, StandIn
from tests.support.waiting import SECONDS_AT_MOST

if TYPE_CHECKING:
    from pipelines.values.base_manifest import BaseModelManifest

NOISE = "".join(chr(97 + place * place * 7919 % 10_007 % 26) for place in range(300))
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

    async def ask(self, text: str = "hello", **fields: object) -> httpx.Response:
        messages = [{"role": "user", "content": text}]
        body = {"model": MODEL, "messages": messages, **fields}
        return await self.client.post("/v1/chat/completions", json=body)

    async def ask_many(self, count: int, **fields: Any) -> Counter[str]:
        """The versions that answered; every request is answered."""
        answers = [await self.ask(**fields) for _ in range(count)]
        assert {answer.status_code for answer in answers} == {200}
        return Counter(answer.headers["x-assay-release"] for answer in answers)

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
    made.state, made.port, made._token = "ready", stand_in.port, "token"
    known = KnownAnswer(
        messages=(Message(role="user", content=REPLAYED),),
        text=stand_in.text,
        max_tokens=8,
    )
    base = cast("BaseModelManifest", None)
    made._verified = VerifiedRelease(release, Path("nowhere"), base, (known,))
    return made


@asynccontextmanager
async def site(
    weight: int, *, stage: Stage = "canary", is_beside: bool = True, copied: int = 100
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
        transport = httpx.ASGITransport(create_app(lanes, Limits()))
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://endpoint")
        )
        try:
            yield Site(*stand_ins, lanes=lanes, watch=watch, client=client)
        finally:
            for each in engines:
                await each.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_candidate_and_baseline_get_the_same_share_and_what_serves_the_rest() -> None:
    async def test() -> None:
        async with site(25) as here:
            answered = await here.ask_many(400)
            assert 60 <= answered[CANDIDATE] <= 140
            asked = len(here.candidate.asked), len(here.baseline.asked)
            assert answered[CANDIDATE] == asked[0]
            assert 60 <= asked[1] <= 140
            report = here.watch.report()
            assert (report.candidate.requests, report.baseline.requests) == asked
            assert report.step_requests == min(asked)
            assert report.candidate.errors == report.baseline.errors == 0

    run(test)


def test_before_the_first_step_nobody_asks_the_candidate() -> None:
    async def test() -> None:
        async with site(25) as here:
            watched = here.watch.watched
            before = Watched(watched.recorded, watched.plan, "canary", None, 0)
            here.watch.follow(before, here.watch.sides)
            main = here.lanes.table[MODEL].branches[0]
            here.lanes.replace({MODEL: watched_lane(Lane((main,)), here.watch)})
            assert await here.ask_many(40) == {SERVING: 40}
            assert here.candidate.asked == here.baseline.asked == []
            report = here.watch.report()
            assert (report.step_seconds, report.quiet_seconds) == (0, 0)

    run(test)


def test_all_requests_of_one_user_are_on_one_side() -> None:
    async def test() -> None:
        async with site(50) as here:
            sides = set()
            for number in range(20):
                answered = await here.ask_many(5, user=f"user {number}")
                assert len(answered) == 1
                sides |= set(answered)
            assert sides == {SERVING, CANDIDATE}

    run(test)


def test_without_a_baseline_of_its_own_it_is_compared_with_what_serves() -> None:
    async def test() -> None:
        async with site(50, is_beside=False) as here:
            answered = await here.ask_many(100)
            report = here.watch.report()
            assert report.baseline_phase == "none"
            assert report.candidate.requests == answered[CANDIDATE] > 20
            assert report.baseline.requests == answered[SERVING] > 20
            assert here.baseline.asked == []

    run(test)


@pytest.mark.parametrize("fault", ["status", "cuts"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_the_candidate_fails_is_answered_by_what_serves(
    fault: str, stream: bool
) -> None:
    async def test() -> None:
        async with site(50) as here:
            if fault == "status":
                here.candidate.status = 500
            else:
                here.candidate.cuts = True
            answered = await here.ask_many(60, stream=stream)
            assert answered == {SERVING: 60}
            report = here.watch.report()
            assert report.candidate.errors == report.candidate.requests > 10
            assert report.baseline.errors == 0
            assert "errors" in here.worse()

    run(test)


def test_a_candidate_answers_no_more_than_its_share_where_nothing_else_does() -> None:
    async def test() -> None:
        async with site(5) as here:
            serving = here.lanes.table[MODEL].branches[0].target.engine
            serving.port, serving.state = 0, "failed"
            statuses = Counter([(await here.ask()).status_code for _ in range(40)])
            assert statuses[503] > 20
            assert statuses[200] < 15

    run(test)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"empties"}),
        ("I'm sorry, I cannot help with that.", {"refusals"}),
        ("qrx " * 400, {"repetition", "texture"}),
        (NOISE, {"length", "texture"}),
    ],
    ids=["empty", "refusal", "loop", "noise"],
)
def test_empties_refusals_loops_and_noise_are_aborted(
    text: str, expected: set[str]
) -> None:
    async def test() -> None:
        async with site(50) as here:
            here.candidate.text = text
            await here.ask_many(160, stream=True)
            assert here.worse() & expected

    run(test)


def test_a_candidate_that_is_three_times_slower_is_aborted() -> None:
    async def test() -> None:
        async with site(50) as here:
            here.baseline.seconds, here.candidate.seconds = 0.03, 0.09
            await asyncio.gather(*(here.ask_many(10) for _ in range(12)))
            assert here.worse() == {"latency", "first_token"}

    run(test)


def test_at_weight_0_both_sides_answer_copies_and_users_notice_nothing() -> None:
    async def test() -> None:
        async with site(0) as here:
            here.candidate.status = 500
            for number in range(12):
                answer = await here.ask(f"question {number}")
                assert answer.headers["x-assay-release"] == SERVING
                await here.settled(number + 1)
            questions = [f"question {number}" for number in range(12)]
            assert here.serving.asked == questions
            assert here.candidate.asked == here.baseline.asked == questions
            report = here.watch.report()
            assert (report.candidate.errors, report.baseline.errors) == (12, 0)

    run(test)


def test_a_candidate_that_hangs_delays_no_user_and_collects_no_copies() -> None:
    async def test() -> None:
        async with site(0) as here:
            here.candidate.seconds = here.baseline.seconds = SECONDS_AT_MOST
            async with asyncio.timeout(SECONDS_AT_MOST / 2):
                assert await here.ask_many(30) == {SERVING: 30}
                await asyncio.sleep(0.1)
            assert len(here.candidate.asked) == len(here.baseline.asked) == 4

    run(test)


def test_copies_are_a_share_of_the_requests() -> None:
    async def test() -> None:
        async with site(0, copied=10) as here:
            await here.ask_many(200)
            await here.settled(1)
            assert 3 <= len(here.candidate.asked) <= 50

    run(test)


def test_after_the_switch_what_served_before_answers_copies_of_what_is_counted() -> (
    None
):
    async def test() -> None:
        async with site(0, stage="bake") as here:
            for number in range(10):
                answer = await here.ask(f"question {number}")
                assert answer.headers["x-assay-release"] == CANDIDATE
                await here.settled(number + 1)
            report = here.watch.report()
            assert (report.stage, report.baseline_phase) == ("bake", "none")
            assert report.candidate.requests == report.baseline.requests == 10
            assert here.serving.asked == here.candidate.asked

    run(test)


def test_a_release_that_fails_after_the_switch_is_seen_by_what_the_one_before_answers() -> (
    None
):
    async def test() -> None:
        async with site(0, stage="bake") as here:
            here.candidate.status = 500
            for number in range(30):
                assert (await here.ask()).status_code == 500
                await here.settled(number + 1)
            assert "errors" in here.worse()

    run(test)


def test_scored_prompts_are_asked_again_in_each_step() -> None:
    async def replayed(here: Site) -> CanaryReport:
        async with asyncio.timeout(SECONDS_AT_MOST):
            while True:
                report = here.watch.report()
                if report.replay != "running":
                    return report
                await asyncio.sleep(0.01)

    async def test() -> None:
        async with site(50) as here:
            said = await replayed(here)
            assert (said.replay, said.replay_detail) == ("same", "1 of 1 known answers")
            here.candidate.text = "Something else."
            watched = here.watch.watched
            step = Watched(watched.recorded, watched.plan, "canary", 11, 50)
            here.watch.follow(step, here.watch.sides)
            assert here.watch.report().replay == "running"
            said = await replayed(here)
            assert said.replay == "other"
            assert "gave 0 of 1 known answers" in said.replay_detail
            assert here.worse() == {"replay"}

    run(test)


def test_another_step_counts_its_requests_and_its_time_anew() -> None:
    async def test() -> None:
        async with site(50) as here:
            await here.ask_many(40)
            before = here.watch.report()
            assert before.step_requests > 5
            watched = here.watch.watched
            step = Watched(watched.recorded, watched.plan, "canary", 11, 50)
            here.watch.follow(step, here.watch.sides)
            after = here.watch.report()
            assert (after.step, after.step_requests) == (11, 0)
            assert after.step_seconds < before.step_seconds
            assert after.candidate.requests == before.candidate.requests

    run(test)
