"""The endpoint as the page asks it."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from core.errors import ServingError
from pipelines.values.dataset import Message
from serving.playground.__main__ import check_keys
from serving.playground.api import Answer, EndpointApi, KeyNeeded, ServedModel, Visitor
from tests.support.standin_endpoint import BASE, TUNED, StandInEndpoint

pytestmark = pytest.mark.ci
ANN = Visitor("192.0.2.7")
QUESTION = [Message(role="user", content="extract a.tar.gz")]


@pytest.fixture
def endpoint() -> Iterator[StandInEndpoint]:
    with StandInEndpoint().running() as running:
        yield running


def ask(endpoint: StandInEndpoint, visitor: Visitor = ANN) -> tuple[Answer, list[str]]:
    """The answer, and what of it was there each time that more had come."""
    answer = Answer(TUNED)

    async def fill() -> list[str]:
        async with aclosing(EndpointApi(endpoint.url)) as api:
            filling = api.fill(answer, QUESTION, visitor, "somebody")
            return [answer.text async for _ in filling]

    return answer, asyncio.run(fill())


def models_of(
    endpoint: StandInEndpoint, visitor: Visitor = ANN
) -> tuple[ServedModel, ...]:
    async def ask_for_models() -> tuple[ServedModel, ...]:
        async with aclosing(EndpointApi(endpoint.url)) as api:
            return await api.models(visitor)

    return asyncio.run(ask_for_models())


def test_models_are_listed_with_the_tuned_ones_first(endpoint: StandInEndpoint) -> None:
    assert models_of(endpoint) == (
        ServedModel(TUNED, "b" * 64, is_base=False),
        ServedModel(BASE, "b" * 64, is_base=True),
    )


def test_an_answer_arrives_piece_by_piece_with_what_gave_it(
    endpoint: StandInEndpoint,
) -> None:
    answer, seen = ask(endpoint)
    assert seen[:2] == ["tar", "tar -xzf"]
    assert (answer.text, answer.error) == ("tar -xzf a.tar.gz", "")
    assert (answer.release, answer.fingerprint) == ("3", f"fp_{TUNED}")
    assert answer.can_be_rated
    assert endpoint.asked[0]["user"] == "somebody"
    assert endpoint.addresses == ["192.0.2.7"]


def test_an_answer_that_breaks_off_is_not_whole(endpoint: StandInEndpoint) -> None:
    endpoint.breaks_off = True
    answer, _ = ask(endpoint)
    assert answer.text == "tar -xzf a.tar.gz"
    assert "broke off" in answer.error
    assert not answer.can_be_rated


def test_an_answer_may_hold_what_ends_a_line_elsewhere(
    endpoint: StandInEndpoint,
) -> None:
    text = "one\u2028two\u2029three\x85four \u00e4"
    endpoint.answers[TUNED] = text
    answer, _ = ask(endpoint)
    assert (answer.text, answer.error) == (text, "")
    assert answer.is_whole


@pytest.mark.parametrize(
    "event",
    ["{", "[]", "7", "{}}", '{"error": "x"}', '{"choices": [{}]}', "[" * 100_000],
    ids=["half", "list", "number", "two", "error", "choice", "deep"],
)
def test_an_event_of_another_form_ends_the_answer_with_a_sentence(
    endpoint: StandInEndpoint, event: str
) -> None:
    endpoint.events = (f"data: {event}", "", "data: [DONE]", "")
    answer, _ = ask(endpoint)
    assert "no answer in OpenAI's form" in answer.error
    assert not answer.is_whole


@pytest.mark.parametrize("listed", ["<html>", "[]", '{"data": [7]}', '{"data": null}'])
def test_what_lists_no_models_is_no_endpoint(
    endpoint: StandInEndpoint, listed: str
) -> None:
    endpoint.lists = listed
    with pytest.raises(ServingError, match="lists no models as OpenAI's"):
        models_of(endpoint)


def test_an_endpoint_that_hangs_is_not_waited_for(endpoint: StandInEndpoint) -> None:
    endpoint.seconds_to_list = 2.0

    async def ask_for_models() -> None:
        async with aclosing(EndpointApi(endpoint.url, 0.1)) as api:
            await api.models(ANN)

    with pytest.raises(ServingError, match="ReadTimeout"):
        asyncio.run(ask_for_models())


def test_a_text_that_no_model_wrote_is_not_rated(endpoint: StandInEndpoint) -> None:
    endpoint.release = "none"
    answer, _ = ask(endpoint)
    assert answer.is_whole
    assert not answer.can_be_rated


def test_more_visitors_than_a_hundred_are_answered_at_once(
    endpoint: StandInEndpoint,
) -> None:
    endpoint.never_ends = True

    async def ask_all() -> None:
        async with aclosing(EndpointApi(endpoint.url)) as api:
            streams = [api.fill(Answer(TUNED), QUESTION, ANN, "a") for _ in range(120)]
            async with asyncio.timeout(30):
                await asyncio.gather(*(anext(each) for each in streams))
            for each in streams:
                await each.aclose()

    asyncio.run(ask_all())
    assert len(endpoint.asked) == 120


def test_a_refusal_is_said_in_the_endpoint_s_own_words(
    endpoint: StandInEndpoint,
) -> None:
    endpoint.refuses = "No engine answers at this moment."
    answer, _ = ask(endpoint)
    assert answer.error == "No engine answers at this moment."


def test_without_its_key_nobody_is_answered(endpoint: StandInEndpoint) -> None:
    endpoint.key = "sk-right"
    with pytest.raises(KeyNeeded, match="Send an API key"):
        models_of(endpoint)
    assert ask(endpoint)[0].error == "Send an API key."
    right = Visitor("192.0.2.7", "sk-right")
    assert len(models_of(endpoint, right)) == 2
    assert ask(endpoint, right)[0].is_whole


@pytest.mark.parametrize(
    "key",
    ["a b", "a\r\nhost: evil", "ä", "k" * 513],
    ids=["space", "line", "umlaut", "long"],
)
def test_a_key_that_no_header_can_hold_is_never_sent(
    endpoint: StandInEndpoint, key: str
) -> None:
    answer, _ = ask(endpoint, Visitor("192.0.2.7", key))
    assert "one word" in answer.error
    assert endpoint.asked == []


def test_a_rating_is_of_one_answer_and_counts_once(endpoint: StandInEndpoint) -> None:
    answer, _ = ask(endpoint)

    async def rate(score: int) -> None:
        async with aclosing(EndpointApi(endpoint.url)) as api:
            await api.rate(answer, score, ANN)

    asyncio.run(rate(-1))
    assert endpoint.ratings == [{"id": answer.id, "score": -1}]
    with pytest.raises(ServingError, match="rated already"):
        asyncio.run(rate(1))


def test_an_endpoint_that_is_away_is_named() -> None:
    away = StandInEndpoint(url="http://127.0.0.1:1/v1")
    assert "Nothing answers at http://127.0.0.1:1/v1" in ask(away)[0].error
    with pytest.raises(ServingError, match="assay up"):
        models_of(away)
    # httpx says of an address that is none by an error of another family.
    nowhere = StandInEndpoint(url="http://[::1")
    assert "Nothing answers at http://[::1" in ask(nowhere)[0].error
    with pytest.raises(ServingError, match="InvalidURL"):
        models_of(nowhere)


def test_a_page_for_others_needs_an_endpoint_that_asks_for_keys(
    endpoint: StandInEndpoint,
) -> None:
    with pytest.raises(ServingError, match="asks for no API key"):
        asyncio.run(check_keys(endpoint.url))
    endpoint.key = "sk-right"
    asyncio.run(check_keys(endpoint.url))
