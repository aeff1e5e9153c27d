"""Ratings are tied to answers that were given, counted by client, and end a worse release."""

import json
from pathlib import Path

import httpx
import pytest

from pipelines.engines.refusal import Refusal
from registry.ledger.entries import CanaryStep, ReleaseCompleted, ReleaseSwitched
from registry.ledger.ledger import open_ledger
from registry.release.canary_counts import CanaryReport, Side, no_counts
from registry.release.canary_signals import SignalFinding, find_signals
from serving.endpoint import feedback
from serving.endpoint.canary_lane import watched_lane
from serving.endpoint.feedback import (
    GivenAnswers,
    IdReader,
    RatedSide,
    Ratings,
    client_of,
)
from serving.endpoint.lanes import Branch, Lane, Target
from serving.endpoint.watches import Watches
from serving.feedback_schema import Rating
from serving.observing.origin import Origin
from tests.support.canaries import plan, report
from tests.support.canary_site import CANDIDATE, SERVING, Site, run, site
from tests.support.fake_endpoint import MODEL, Bench

GOOD, BAD = 1, -1


def rating(answer_id: str = "a", score: int = BAD) -> Rating:
    return Rating(id=answer_id, score=score)


def counted(ratings: Ratings, side: Side) -> tuple[int, int]:
    """Clients that rated it, and those that rated it as bad."""
    counts = ratings.added_to(no_counts(), side)
    return counts.raters, counts.feedback


def votes(said: CanaryReport) -> dict[str, tuple[int, int]]:
    sides = {"candidate": said.candidate, "baseline": said.baseline}
    return {name: (side.raters, side.feedback) for name, side in sides.items()}


def finding_of(said: CanaryReport) -> SignalFinding:
    """What ratings say. What times say is another signal: a busy machine may make them differ."""
    findings = find_signals(plan(), said)
    return next(each for each in findings if each.signal == "feedback")


def feedback_of(said: CanaryReport) -> str:
    return finding_of(said).answer


def id_of(answer: httpx.Response) -> str:
    opening = answer.text.removeprefix("data: ").partition("\n")[0]
    return str(json.loads(opening)["id"])


def error_of(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


# Clients and ratings


def test_a_client_counts_once_for_the_side_that_it_rated_first() -> None:
    ratings = Ratings()
    ratings.count("candidate", "ann", rating(score=BAD))
    for score in (BAD, GOOD):
        ratings.count("candidate", "ann", rating(score=score))
        ratings.count("baseline", "ann", rating(score=score))
    ratings.count("baseline", "bob", rating(score=GOOD))
    assert counted(ratings, "candidate") == (1, 1)
    assert counted(ratings, "baseline") == (1, 0)


def test_clients_that_are_told_apart_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feedback, "_MOST_CLIENTS", 3)
    ratings = Ratings()
    for number in range(10):
        ratings.count("candidate", f"client {number}", rating())
    assert counted(ratings, "candidate") == (3, 3)


def test_one_client_alone_stops_nothing_however_often_it_rates() -> None:
    ratings = Ratings()
    for number in range(500):
        ratings.count("baseline", f"honest {number}", rating(score=GOOD))
    for _ in range(10_000):
        ratings.count("candidate", "hostile", rating(score=BAD))
    said = report(
        7,
        9,
        candidate=ratings.added_to(no_counts(), "candidate"),
        baseline=ratings.added_to(no_counts(), "baseline"),
    )
    assert votes(said)["candidate"] == (1, 1)
    assert feedback_of(said) == "fine"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),
        ("fe80::1%eth0", "fe80::1%eth1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        (None, ""),
        ("nobody", "x" * 10_000),
    ],
)
def test_addresses_that_one_client_can_choose_from_are_one_client(
    one: str | None, other: str | None
) -> None:
    assert client_of(one) == client_of(other)


def test_other_addresses_are_other_clients() -> None:
    addresses = ("192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db8:0:1::1", None)
    assert len({client_of(address) for address in addresses}) == len(addresses)


# Answers that were given


def test_an_answer_is_rated_once() -> None:
    given = GivenAnswers()
    given.add("a", None)
    given.rate(rating(score=GOOD), "ann")
    for client in ("ann", "bob"):
        with pytest.raises(Refusal, match="rated already") as refused:
            given.rate(rating(), client)
        assert refused.value.status == 409


def test_an_answer_that_was_never_given_cannot_be_rated() -> None:
    given = GivenAnswers()
    given.add("a", None)
    with pytest.raises(Refusal, match="No answer of that id") as refused:
        given.rate(rating("b"), "ann")
    assert refused.value.status == 404


def test_only_the_latest_answers_are_kept() -> None:
    given = GivenAnswers(most=2)
    for answer_id in "abc":
        given.add(answer_id, None)
    with pytest.raises(Refusal, match="No answer"):
        given.rate(rating("a"), "ann")
    given.rate(rating("b"), "ann")
    given.rate(rating("c"), "ann")


def test_answers_are_kept_for_a_time() -> None:
    given = GivenAnswers(seconds=0.0)
    given.add("a", None)
    with pytest.raises(Refusal, match="No answer"):
        given.rate(rating("a"), "ann")
    given.add("b", None)
    assert len(vars(given)["_answers"]) == 0


def test_an_id_that_is_given_twice_stays_with_the_first_side() -> None:
    given, ratings = GivenAnswers(), Ratings()
    given.add("a", RatedSide(ratings, "baseline"))
    given.add("a", RatedSide(ratings, "candidate"))
    given.rate(rating(), "ann")
    assert counted(ratings, "baseline") == (1, 1)
    assert counted(ratings, "candidate") == (0, 0)


def test_a_rating_names_what_gave_the_answer_and_equal_origins_are_kept_once() -> None:
    given = GivenAnswers()
    releases = {"a": "1", "b": "2", "c": "2"}
    for answer_id, release in releases.items():
        given.add(answer_id, None, Origin(MODEL, release, "f"))
    named = [given.rate(rating(answer_id), "ann") for answer_id in releases]
    assert [origin.release for origin in named] == ["1", "2", "2"]
    assert named[1] is named[2]


@pytest.mark.parametrize(
    "response",
    [
        b'{"id":"chatcmpl-7","object":"chat.completion"}',
        b'data: {"id": "chatcmpl-7", "choices": []}\n\ndata: [DONE]\n\n',
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_id_is_read_in_whatever_pieces_it_comes(response: bytes, size: int) -> None:
    given = GivenAnswers()
    reader = IdReader(given, None)
    for start in range(0, len(response), size):
        reader.take(response[start : start + size])
    given.rate(rating("chatcmpl-7"), "ann")


@pytest.mark.parametrize(
    "response",
    [
        b'{"error": {"id": "x"}}',
        b'{"choices": [{"message": {"content": "\\"id\\": \\"x\\""}}], "id": "x"}',
        b" " * 300 + b'{"id": "x"}',
        b'{"id": "' + b"x" * 129 + b'"}',
        b'{"id": 3}',
        b"",
    ],
)
def test_an_id_counts_only_where_an_engine_writes_it(response: bytes) -> None:
    given = GivenAnswers()
    IdReader(given, None).take(response)
    assert len(vars(given)["_answers"]) == 0


def test_no_more_is_read_than_the_opening_of_an_answer() -> None:
    given = GivenAnswers()
    reader = IdReader(given, None)
    # Of the length at which an opening ends.
    reader.take(b"{" + b" " * 255)
    reader.take(b'"id": "x"}')
    assert len(vars(given)["_answers"]) == 0


# The route


@pytest.mark.parametrize("stream", [False, True])
def test_a_rating_counts_for_the_side_that_gave_the_answer(stream: bool) -> None:
    async def test() -> None:
        async with site(50) as here:
            expected = {"candidate": 0, "baseline": 0}
            for number in range(30):
                answer = await here.ask(stream=stream)
                is_candidate = answer.headers["x-assay-release"] == CANDIDATE
                expected["candidate" if is_candidate else "baseline"] += 1
                body = {"id": id_of(answer), "score": BAD if is_candidate else GOOD}
                rated = await here.rate(body, f"192.0.2.{number}")
                assert rated.status_code == 200
                assert rated.json() == {"object": "feedback", **body}
            assert min(expected.values()) > 3
            assert votes(here.watch.report()) == {
                "candidate": (expected["candidate"], expected["candidate"]),
                "baseline": (expected["baseline"], 0),
            }

    run(test)


def test_worse_ratings_end_a_canary_and_the_reason_has_both_numbers() -> None:
    async def test() -> None:
        async with site(50) as here:
            await rate_all(here, 80)
            found = finding_of(here.watch.report())
            assert found.answer == "worse"
            assert found.text.startswith("negative feedback in 100.0% of ")

    run(test)


async def rate_all(here: Site, count: int) -> None:
    """So many clients, who all dislike the candidate and like what serves."""
    for number in range(count):
        answer = await here.ask()
        is_candidate = answer.headers["x-assay-release"] == CANDIDATE
        body = {"id": id_of(answer), "score": BAD if is_candidate else GOOD}
        await here.rate(body, f"192.0.2.{number}")


def test_one_hostile_client_ends_no_canary() -> None:
    async def test() -> None:
        async with site(50) as here:
            for _ in range(100):
                answer = await here.ask()
                is_candidate = answer.headers["x-assay-release"] == CANDIDATE
                body = {"id": id_of(answer), "score": BAD if is_candidate else GOOD}
                assert (await here.rate(body)).status_code == 200
            raters = [each[0] for each in votes(here.watch.report()).values()]
            assert sum(raters) == 1
            assert feedback_of(here.watch.report()) == "fine"

    run(test)


def test_unknown_repeated_and_wrong_ratings_are_refused() -> None:
    async def test() -> None:
        async with site(50) as here:
            known = id_of(await here.ask())
            made_up = await here.rate({"id": "chatcmpl-7", "score": 1})
            assert (made_up.status_code, error_of(made_up)) == (404, "answer_not_found")
            assert (await here.rate({"id": known, "score": 1})).status_code == 200
            again = await here.rate({"id": known, "score": 1}, "192.0.2.1")
            assert (again.status_code, error_of(again)) == (409, "already_rated")
            wrong = await here.rate({"id": known, "score": True})
            assert wrong.status_code == 400
            kind = {"content-type": "text/plain"}
            assert (await here.rate({}, **kind)).status_code == 415
            assert (await here.rate("x" * 1_000_001)).status_code == 413

    run(test)


def test_copies_that_nobody_saw_cannot_be_rated_and_what_serves_is_on_no_side() -> None:
    async def test() -> None:
        async with site(0) as here:
            answer = await here.ask()
            assert answer.headers["x-assay-release"] == SERVING
            await here.settled(1)
            rated = await here.rate({"id": id_of(answer), "score": BAD})
            assert rated.status_code == 200
            nothing = {"candidate": (0, 0), "baseline": (0, 0)}
            assert votes(here.watch.report()) == nothing

    run(test)


def test_without_a_baseline_of_its_own_ratings_of_what_serves_count_for_it() -> None:
    async def test() -> None:
        async with site(50, is_beside=False) as here:
            await rate_all(here, 40)
            said = votes(here.watch.report())
            raters, negative = said["baseline"]
            assert (raters > 5, negative) == (True, 0)
            assert sum(each[0] for each in said.values()) == 40

    run(test)


def test_after_the_switch_answers_count_that_are_not_copied_too() -> None:
    async def test() -> None:
        async with site(0, stage="bake", copied=1) as here:
            # What the baseline was told in the canary.
            for number in range(60):
                baseline = here.watch.rated_side("baseline").ratings
                baseline.count("baseline", f"early {number}", rating(score=GOOD))
            await rate_all(here, 20)
            report_now = here.watch.report()
            assert votes(report_now)["candidate"] == (20, 20)
            assert report_now.candidate.requests < 20
            assert here.worse() == {"feedback"}

    run(test)


def test_where_no_release_is_watched_ratings_are_taken_and_count_nowhere() -> None:
    async def test() -> None:
        async with site(50) as here:
            main = here.lanes.table[MODEL].branches[0].target
            here.lanes.replace({MODEL: Lane((Branch(Target(main.engine)),))})
            await rate_all(here, 5)
            assert sum(each[0] for each in votes(here.watch.report()).values()) == 0

    run(test)


def test_what_stands_in_after_the_switch_is_not_rated_as_the_new_release() -> None:
    async def test() -> None:
        async with site(0, stage="bake") as here:
            entitled = here.lanes.table[MODEL].branches[0].target
            entitled.engine.state = "failed"
            stand_in = here.watch.sides.baseline
            assert stand_in is not None
            lane = Lane((Branch(entitled),), (Target(stand_in),))
            here.lanes.replace({MODEL: watched_lane(lane, here.watch)})
            answer = await here.ask()
            assert answer.headers["x-assay-release"] == SERVING
            await here.rate({"id": id_of(answer), "score": BAD})
            assert votes(here.watch.report())["candidate"] == (0, 0)

    run(test)


def test_ratings_go_on_from_the_canary_to_its_bake_and_to_no_other_release(
    tmp_path: Path,
) -> None:
    bench = Bench(open_ledger(tmp_path / "home"))
    bench.release("1")
    canary = plan(weights=[5], bake_s=60)
    begun = bench.begin("2", canary)
    bench.write(CanaryStep(begun=begun, weight=5))
    watches = Watches()
    watches.follow(bench.ledger.state(), {})
    in_canary = watches.of(MODEL)
    assert in_canary is not None
    in_canary.ratings.count("baseline", "ann", rating())
    watches.follow(bench.write(ReleaseSwitched(begun=begun)), {})
    [said] = watches.reports()
    assert (said.stage, votes(said)["baseline"]) == ("bake", (1, 1))
    bench.write(ReleaseCompleted(begun=begun))
    bench.begin("3", canary)
    watches.follow(bench.ledger.state(), {})
    [said] = watches.reports()
    assert (said.stage, votes(said)["baseline"]) == ("canary", (0, 0))
