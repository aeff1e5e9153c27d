"""What is counted of an answer, whole or streamed, and that a client that leaves hides nothing."""

import asyncio
import json
import time
from typing import Any

import pytest

from registry.release.canary_counts import SECONDS, SideCounts
from serving.endpoint.tally import (
    Bins,
    Tally,
    compressed_ratio,
    observing,
    text_of,
)
from serving.endpoint.upstream import EngineLost
from serving.repetition import repeated_share
from tests.support.canaries import PROSE


def whole(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def streamed(*pieces: str) -> bytes:
    deltas = [{"content": piece} for piece in ("", *pieces)]
    events: list[dict[str, Any]] = [{"choices": [{"delta": delta}]} for delta in deltas]
    events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    events.append({"choices": [], "usage": {}})
    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return (lines + "data: [DONE]\n\n").encode()


def seen(response: bytes, status: int = 200) -> SideCounts:
    tally = Tally()
    with observing(tally) as observation:
        observation.status = status
        for start in range(0, len(response), 100):
            observation.take(response[start : start + 100])
    return tally.freeze()


def test_a_whole_answer_and_a_stream_say_the_same() -> None:
    assert text_of(whole("Hello there")) == "Hello there"
    assert text_of(streamed("Hello", " there")) == "Hello there"
    for response in (whole(PROSE), streamed(PROSE)):
        counted = seen(response)
        assert (counted.requests, counted.errors, counted.answers) == (1, 0, 1)
        assert (counted.empties, counted.refusals, counted.repetition) == (0, 0, 0)
        assert counted.latency.total == counted.first_token.total == 1
        assert counted.length.total == counted.texture.total == 1


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_whatever_is_no_answer_is_an_error(status: int) -> None:
    counted = seen(b'{"error": {"message": "no"}}', status)
    assert (counted.requests, counted.errors) == (1, 1)
    assert counted.latency.total == 0


def test_a_stream_that_ends_in_an_error_is_one() -> None:
    cut = streamed("Hel").replace(b"data: [DONE]", b'data: {"error": {"code": "x"}}')
    assert text_of(cut) is None
    assert seen(cut).errors == 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "empties"),
        (" …\n", "empties"),
        ("I'm sorry, but I can't help with that.", "refusals"),
        ("the same thing " * 40, "repetition"),
        ("同じことを何度も繰り返します。" * 20, "repetition"),
    ],
)
def test_an_answer_is_counted_for_what_is_wrong_with_it(text: str, name: str) -> None:
    counted = seen(whole(text))
    wrong = {
        each
        for each in ("errors", "empties", "refusals", "repetition")
        if getattr(counted, each)
    }
    assert wrong == {name}


@pytest.mark.parametrize(
    "response",
    [b"", b"[]", b"3", b"null", b"{", b'{"choices": [{}]}', b'{"choices": null}'],
)
def test_what_no_engine_answers_is_an_empty_answer(response: bytes) -> None:
    counted = seen(response)
    assert (counted.requests, counted.empties) == (1, 1)


def test_a_client_that_leaves_shows_how_long_it_waited() -> None:
    tally = Tally()
    with pytest.raises(asyncio.CancelledError), observing(tally):
        raise asyncio.CancelledError
    counted = tally.freeze()
    assert (counted.requests, counted.latency.total) == (0, 1)


def test_a_short_stall_is_one_slow_answer_however_many_were_waiting() -> None:
    stalled, quick = Tally(apart=60.0), Tally()
    for tally in (stalled, quick):
        for _ in range(20):
            tally.add_answer(PROSE)
            tally.add_times(3.0, 1.0)
    assert (stalled.requests, stalled.freeze().latency.total) == (20, 1)
    assert quick.freeze().latency.total == 20


def test_times_are_counted_again_once_the_moment_is_over() -> None:
    tally = Tally(apart=0.01)
    for _ in range(3):
        tally.add_times(0.3, 0.1)
        time.sleep(0.02)
    assert tally.freeze().first_token.total == 3


def test_an_engine_that_is_lost_has_failed() -> None:
    tally = Tally()
    with pytest.raises(EngineLost), observing(tally):
        raise EngineLost("It is gone.")
    assert (tally.requests, tally.freeze().errors) == (1, 1)


def test_without_a_tally_nothing_is_kept() -> None:
    with observing(None) as observation:
        observation.take(whole(PROSE))
    observation.fail()
    observation.leave()
    assert vars(observation)["_response"] == b""


def test_a_bin_holds_what_is_not_over_its_edge() -> None:
    bins = Bins(SECONDS)
    for seconds in (0.0, SECONDS[0], 0.011, 10_000.0):
        bins.add(seconds)
    histogram = bins.freeze()
    assert histogram.counts == (2, 1, *[0] * 27, 1)
    over, under = histogram.over(0), histogram.under(0)
    assert (over.hits, under.hits, over.total) == (2, 2, 4)


def test_prose_repeats_nothing_and_lies_between_loops_and_noise() -> None:
    assert repeated_share(PROSE) == 0
    assert repeated_share("no no no") == 0
    assert repeated_share("no " * 60) > 0.9
    noise = "".join(chr(0x4E00 + 7919 * place % 20_000) for place in range(300))
    loop, prose = "no " * 100, PROSE * 2
    ratios = [compressed_ratio(text) for text in ("", loop, prose, noise)]
    assert ratios == sorted(ratios)
    assert ratios[0] == 0
