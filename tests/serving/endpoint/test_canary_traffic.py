"""Who is asked while a release is watched, what users get of it, and what is counted."""

import asyncio
from collections import Counter

import pytest

from registry.release.canary_counts import CanaryReport
from serving.endpoint.canary_lane import watched_lane
from serving.endpoint.canary_watch import Watched
from serving.endpoint.lanes import Lane
from tests.support.canary_site import CANDIDATE, SERVING, Site, run, site
from tests.support.fake_endpoint import MODEL
from tests.support.waiting import SECONDS_AT_MOST

NOISE = "".join(chr(97 + place * place * 7919 % 10_007 % 26) for place in range(300))


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
            # Answers come in bursts here, and there are no minutes to wait.
            here.watch.candidate.apart = here.watch.baseline.apart = 0.0
            here.baseline.seconds, here.candidate.seconds = 0.06, 0.18
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
