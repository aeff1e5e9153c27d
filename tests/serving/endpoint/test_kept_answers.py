"""Prompts and kept answers on their way through the endpoint's routes."""

from pathlib import Path

import pytest

from serving.endpoint.api_keys import create_key
from serving.endpoint.lanes import Branch, Lane, Target
from serving.endpoint.public_app import guard
from serving.endpoint.public_settings import PublicSettings
from serving.observing.observer import Observer
from tests.support.canary_site import CANDIDATE, SERVING, Site, engine, run, site
from tests.support.fake_endpoint import MODEL, release_of

ROOM = 100_000


async def complete(here: Site, **fields: object) -> tuple[int, str, str]:
    """Status, release and body of an answer to a prompt."""
    body = {"model": MODEL, "prompt": "hello", **fields}
    answer = await here.client.post("/v1/completions", json=body)
    return answer.status_code, answer.headers["x-assay-release"], answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_prompts_go_the_way_of_conversations_and_are_counted_as_they_are(
    stream: bool,
) -> None:
    async def test() -> None:
        async with site(40) as here:
            here.candidate.text = "<empty>"
            releases = []
            for _ in range(60):
                status, release, body = await complete(here, stream=stream)
                assert status == 200
                assert ("<empty>" in body) is (release == CANDIDATE)
                releases.append(release)
            report = here.watch.report()
            assert report.candidate.requests == releases.count(CANDIDATE) > 5
            assert report.candidate.errors == report.candidate.empties == 0

    run(test)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_the_candidate_fails_is_answered_by_what_serves(
    stream: bool,
) -> None:
    async def test() -> None:
        async with site(50) as here:
            here.candidate.cuts = True
            answers = [await complete(here, stream=stream) for _ in range(30)]
            assert {(status, release) for status, release, _ in answers} == {
                (200, SERVING)
            }
            report = here.watch.report()
            assert report.candidate.errors == report.candidate.requests > 3

    run(test)


def test_what_is_no_prompt_is_refused_before_any_engine_is_asked() -> None:
    async def test() -> None:
        async with site(0) as here:
            for body in (b"{", b'{"prompt": "x"}', b'{"model": 5, "prompt": "x"}'):
                answer = await here.client.post(
                    "/v1/completions",
                    content=body,
                    headers={"content-type": "application/json"},
                )
                assert answer.status_code == 400
                assert answer.json()["error"]["message"].endswith(".")
            assert here.serving.asked == []

    run(test)


def test_what_serves_is_asked_once_and_a_side_that_is_watched_each_time() -> None:
    async def test() -> None:
        async with site(30, cache_bytes=ROOM) as here:
            answers = [await here.ask() for _ in range(40)]
            of_serving = [
                answer
                for answer in answers
                if answer.headers["x-assay-release"] == SERVING
                and "x-assay-cache" in answer.headers
            ]
            told = [answer.headers["x-assay-cache"] for answer in of_serving]
            assert told == ["miss", *["hit"] * (len(told) - 1)]
            assert len(here.serving.asked) == 1
            watched = len(here.candidate.asked) + len(here.baseline.asked)
            assert watched == len(answers) - len(told) > 5
            report = here.watch.report()
            assert report.candidate.requests == len(here.candidate.asked)
            # Each answer from memory is one of its own, which can be rated.
            ids = [answer.json()["id"] for answer in of_serving]
            assert len(set(ids)) == len(ids)
            rated = await here.rate({"id": ids[-1], "score": 1})
            assert rated.status_code == 200

    run(test)


def test_another_release_under_the_same_name_gives_its_own_answers() -> None:
    async def test() -> None:
        async with site(0, cache_bytes=ROOM) as here:
            here.lanes.replace({MODEL: _only(here, SERVING, 3)})
            here.candidate.text = "Another one."
            first = await here.ask()
            assert (await here.ask()).headers["x-assay-cache"] == "hit"
            before = here.lanes.table
            new = engine(7, release_of(CANDIDATE), here.candidate)
            here.lanes.replace({MODEL: Lane((Branch(Target(new)),))})
            second = await here.ask()
            assert second.headers["x-assay-cache"] == "miss"
            assert "Another one." in second.text
            # What was released before gives what it gave, as after a rollback.
            here.lanes.replace(before)
            third = await here.ask()
            assert third.headers["x-assay-cache"] == "hit"
            assert third.json()["choices"] == first.json()["choices"]
            await new.close()

    run(test)


def _only(here: Site, version: str, begun: int) -> Lane:
    """What serves, without anything that is watched."""
    main = here.lanes.table[MODEL].branches[0].target
    assert (main.label, main.engine.need.recorded.begun) == (version, begun)
    return Lane((Branch(Target(main.engine)),))


def test_a_rating_of_a_kept_answer_names_the_release_that_gave_it() -> None:
    async def test() -> None:
        async with site(0, cache_bytes=ROOM) as here:
            here.lanes.replace({MODEL: _only(here, SERVING, 3)})
            await here.ask()
            kept = await here.ask()
            assert kept.headers["x-assay-cache"] == "hit"
            await here.rate({"id": kept.json()["id"], "score": 1})
            metrics = (await here.client.get("/metrics")).text
            labels = f'model="{MODEL}",release="{SERVING}",score="1"'
            assert f"assay_feedback_total{{{labels}}} 1.0" in metrics

    run(test)


def test_a_kept_answer_is_given_to_the_key_of_its_request_alone(tmp_path: Path) -> None:
    keys = [create_key(tmp_path, name) for name in ("ann", "bob")]

    async def test() -> None:
        async with site(0, cache_bytes=ROOM) as here:
            here.lanes.replace({MODEL: _only(here, SERVING, 3)})
            refused = Observer().metrics.refuse
            guard(here.app, tmp_path, PublicSettings(), refused, is_local=True)
            told: list[str] = []
            for made in (*keys, *keys):
                here.client.headers["authorization"] = f"Bearer {made.text}"
                answer = await here.ask()
                told.append(answer.headers["x-assay-cache"])
            assert told == ["miss", "miss", "hit", "hit"]

    run(test)


def test_nothing_is_kept_that_failed_and_nothing_where_nothing_is_to_be() -> None:
    async def test() -> None:
        async with site(0, cache_bytes=ROOM) as here:
            here.lanes.replace({MODEL: _only(here, SERVING, 3)})
            here.serving.status = 500
            for _ in range(2):
                failed = await here.ask()
                assert failed.status_code == 500
                assert "x-assay-cache" not in failed.headers
            assert len(here.serving.asked) == 2
            here.serving.status = 200
            assert (await here.ask()).headers["x-assay-cache"] == "miss"
        async with site(0) as here:
            here.lanes.replace({MODEL: _only(here, SERVING, 3)})
            for _ in range(2):
                assert "x-assay-cache" not in (await here.ask()).headers
            assert len(here.serving.asked) == 2

    run(test)
