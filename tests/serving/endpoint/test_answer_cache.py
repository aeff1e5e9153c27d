"""Answers that are kept: for whom, of what, and within how many bytes."""

import json
from typing import Any

import pytest

from serving.endpoint.answer_cache import AnswerCache

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "x"}]


def key(cache: AnswerCache, tenant: str = "", **fields: Any) -> str | None:
    body = {"model": "tiny", "messages": MESSAGES, **fields}
    return cache.key_of(json.dumps(body).encode(), CHAT, "fp_1", tenant)


def json_of(*names: str) -> dict[str, Any]:
    properties = {name: {"type": "integer"} for name in names}
    schema = {"type": "object", "properties": properties}
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def answer(text: str) -> bytes:
    return json.dumps({"id": "chatcmpl-1", "created": 5, "text": text}).encode()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"temperature": 0},
        {"temperature": None},
        {"temperature": 0.7, "seed": 3},
        {"n": 2},
        {"user": "ann", "metadata": {"a": "b"}},
        {"stream": False},
    ],
)
def test_what_is_answered_alike_again_is_kept(fields: dict[str, Any]) -> None:
    assert key(AnswerCache(10_000), **fields) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.7},
        {"temperature": 0.7, "seed": None},
        {"stream": True},
        {"temperature": "0"},
    ],
)
def test_what_is_drawn_or_streamed_is_not(fields: dict[str, Any]) -> None:
    assert key(AnswerCache(10_000), **fields) is None


def test_without_room_nothing_is_kept() -> None:
    assert key(AnswerCache(0)) is None
    assert AnswerCache(10_000).key_of(b"[]", CHAT, "fp_1", "") is None
    assert AnswerCache(10_000).key_of(b"{", CHAT, "fp_1", "") is None


def test_everything_that_changes_an_answer_or_whose_it_is_is_in_the_key() -> None:
    cache = AnswerCache(10_000)
    body = json.dumps({"model": "tiny", "messages": MESSAGES}).encode()
    keys = [
        key(cache),
        key(cache, tenant="ann"),
        key(cache, max_tokens=5),
        key(cache, seed=1),
        key(cache, stop=["x"]),
        key(cache, response_format={"type": "json_object"}),
        key(cache, response_format=json_of("a", "b")),
        # Answers have their properties in this order.
        key(cache, response_format=json_of("b", "a")),
        key(cache, model="other"),
        # Refused without a stream: it must not find what the same request without it got.
        key(cache, stream_options={"include_usage": True}),
        cache.key_of(body, CHAT, "fp_2", ""),
        cache.key_of(body, "/v1/completions", "fp_1", ""),
    ]
    assert len(set(keys)) == len(keys)


def test_labels_and_the_order_of_fields_are_not() -> None:
    cache = AnswerCache(10_000)
    turned = json.dumps({"messages": MESSAGES, "user": "ann", "model": "tiny"})
    assert cache.key_of(turned.encode(), CHAT, "fp_1", "") == key(cache)


def test_an_answer_that_is_given_again_has_an_id_of_its_own() -> None:
    cache = AnswerCache(10_000)
    cache.keep("k", answer("ü"))
    given = [json.loads(cache.find("k") or b"{}") for _ in range(2)]
    ids = {each["id"] for each in given}
    assert len(ids) == 2
    assert "chatcmpl-1" not in ids
    assert all(each.startswith("chatcmpl-") for each in ids)
    assert [each["text"] for each in given] == ["ü", "ü"]
    assert given[0]["created"] > 5


def test_the_one_that_was_not_asked_for_the_longest_time_makes_room() -> None:
    size = len(answer("x")) + 512
    cache = AnswerCache(2 * size)
    cache.keep("a", answer("x"))
    cache.keep("b", answer("x"))
    assert cache.find("a")
    cache.keep("c", answer("x"))
    assert cache.find("b") is None
    assert cache.find("a")
    assert cache.find("c")
    # Kept again, it takes its room once.
    cache.keep("c", answer("y"))
    assert cache.find("a")
    cache.keep("d", b"x" * 3 * size)
    assert cache.find("d") is None
    assert cache.find("a")
