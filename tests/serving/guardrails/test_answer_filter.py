"""Answers are filtered in both forms, and untouched ones pass byte for byte."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.engines.refusal import Refusal
from serving.guardrails.answer_filter import AnswerFilter
from serving.guardrails.looking import RequestLook
from serving.guardrails.rules import AnswerRules, GuardRules, Topic
from serving.guardrails.text_filter import TextFilter

DONE = b"data: [DONE]\n\n"


def filter_of(**rules: Any) -> AnswerFilter:
    made = AnswerRules.model_validate(rules)
    patterns = made.compiled()
    return AnswerFilter(lambda: TextFilter(patterns, made.repetition))


def event(text: str = "", *, reason: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": {"content": text}, "finish_reason": reason}
    document = {"id": "a", "object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def stream_of(*texts: str) -> bytes:
    return b"".join([*map(event, texts), event(reason="stop"), DONE])


def whole_of(text: str) -> bytes:
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
    return json.dumps({"id": "a", "choices": [choice]}).encode()


def passed(answer_filter: AnswerFilter, stream: bytes, size: int = 7) -> bytes:
    sent = [
        answer_filter.feed(stream[start : start + size])
        for start in range(0, len(stream), size)
    ]
    return b"".join([*sent, answer_filter.finish()])


def said(stream: bytes) -> tuple[str, list[str]]:
    """Text and reasons of a stream's choices."""
    text, reasons = "", []
    for each in stream.split(b"\n\n"):
        data = each.removeprefix(b"data: ")
        if not data or data == b"[DONE]":
            continue
        for choice in json.loads(data)["choices"]:
            text += choice["delta"].get("content") or ""
            reasons.append(choice["finish_reason"])
    return text, [reason for reason in reasons if reason]


MASKS: dict[str, str] = {"email": "mask", "card": "mask"}


def test_a_stream_in_which_nothing_is_found_passes_byte_for_byte() -> None:
    stream = stream_of("List all ", "files here. ", "Then stop. ")
    assert passed(filter_of(**MASKS), stream) == stream


def test_a_whole_answer_in_which_nothing_is_found_is_the_same_bytes() -> None:
    # Spaces as no other program would write them.
    body = b'{"choices":   [{"message": {"content": "hello"}}]}'
    assert filter_of(**MASKS).whole(body) == body


@pytest.mark.parametrize("size", [1, 10, 10_000])
def test_what_a_stream_cuts_in_two_is_masked_and_its_end_stays(size: int) -> None:
    stream = stream_of("Write to jo", "e@exa", "mple.com", " or pay by 4111 1111 1111 ")
    text, reasons = said(passed(filter_of(**MASKS), stream, size))
    assert text == "Write to [EMAIL] or pay by 4111 1111 1111 "
    assert reasons == ["stop"]


def test_a_stream_that_is_cut_off_loses_nothing_that_was_held_back() -> None:
    answer_filter = filter_of(**MASKS)
    sent = passed(answer_filter, event("Write to joe@exa"))
    assert said(sent) == ("Write to joe@exa", [])


def test_an_error_event_comes_after_what_was_held_back() -> None:
    error = b'data: {"error": {"code": "engine_lost"}}\n\n'
    sent = passed(filter_of(**MASKS), event("joe@exa") + error)
    assert sent.endswith(error)
    assert b"joe@exa" in sent.removesuffix(error)


def test_half_an_event_of_a_lost_engine_does_not_pass_and_the_error_does() -> None:
    error = b'data: {"error": {"code": "engine_lost"}}\n\n'
    half = event("joe@example.com ")[:-20]
    sent = passed(filter_of(**MASKS), half + error)
    assert sent == error
    assert passed(filter_of(**MASKS), half) == b""


def test_a_whole_answer_that_cannot_be_read_does_not_pass() -> None:
    for body in (b"joe@example.com", b'{"text": "joe@example.com"}', b'{"choices": 3}'):
        with pytest.raises(Refusal, match="cannot be looked at"):
            filter_of(**MASKS).whole(body)


def test_a_refused_stream_ends_at_once_and_says_why() -> None:
    topic = {"name": "weapons", "words": ["pipe bomb"]}
    answer_filter = filter_of(topics=[topic])
    sent = passed(
        answer_filter, stream_of("First build a pi", "pe  Bomb", " and so on")
    )
    assert said(sent) == ("First build a ", ["content_filter"])
    assert sent.endswith(DONE)
    assert sent.count(DONE) == 1
    assert answer_filter.found == {"weapons.refuse": 1}


def test_a_refused_whole_answer_ends_where_the_match_begins() -> None:
    topic = {"name": "weapons", "words": ["pipe bomb"]}
    body = filter_of(topics=[topic]).whole(whole_of("Take a pipe bomb."))
    (choice,) = json.loads(body)["choices"]
    assert choice["message"]["content"] == "Take a "
    assert choice["finish_reason"] == "content_filter"


def test_each_choice_has_a_filter_of_its_own() -> None:
    stream = event("joe@", index=0) + event("example.com ", index=1) + DONE
    text, _ = said(passed(filter_of(**MASKS), stream))
    assert "[EMAIL]" not in text


def test_log_probabilities_spell_out_no_masked_text() -> None:
    choice = {
        "message": {"content": "joe@example.com"},
        "logprobs": {"content": [{"token": "joe"}]},
    }
    body = json.dumps({"choices": [choice]}).encode()
    assert b"joe" not in filter_of(**MASKS).whole(body)


@pytest.mark.parametrize(
    ("action", "reason"), [("count", "stop"), ("refuse", "content_filter")]
)
def test_an_answer_that_goes_in_circles_is_seen(action: str, reason: str) -> None:
    answer_filter = filter_of(repetition=action)
    sent = passed(answer_filter, stream_of(*(["one two three four "] * 100)), 10_000)
    assert said(sent)[1] == [reason]
    assert answer_filter.found == {f"repetition.{action}": 1}


def test_what_is_only_counted_passes_and_hides_no_mask() -> None:
    topic = {"name": "address", "action": "count", "patterns": ["joe@[a-z.]+ and"]}
    answer_filter = filter_of(email="mask", topics=[topic])
    body = answer_filter.whole(whole_of("joe@example.com and me"))
    assert json.loads(body)["choices"][0]["message"]["content"] == "[EMAIL] and me"
    assert answer_filter.found == {"email.mask": 1, "address.count": 1}


def test_insults_of_the_list_are_masked_as_whole_words() -> None:
    body = filter_of(insults="mask").whole(whole_of("Stupid idiotic scrap, shut  up"))
    text = json.loads(body)["choices"][0]["message"]["content"]
    assert text == "[INSULTS] [INSULTS] scrap, [INSULTS]"


def test_completions_of_the_other_route_are_filtered_too() -> None:
    body = b'{"object": "text_completion", "choices": [{"text": "a@b.org"}]}'
    assert json.loads(filter_of(email="mask").whole(body))["choices"] == [
        {"text": "[EMAIL]", "logprobs": None}
    ]


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda: Topic(name="empty"), "neither words nor patterns"),
        (lambda: Topic(name="x", patterns=("(",)), "no regular expression"),
        (lambda: Topic(name="No Name", words=("a",)), "name"),
        (lambda: AnswerRules.model_validate({"email": "hide"}), "email"),
        (lambda: GuardRules.model_validate({"requests": {}}), "requests"),
    ],
)
def test_rules_that_look_for_nothing_or_cannot_be_read_are_refused(
    make: Callable[[], object], fact: str
) -> None:
    with pytest.raises(ValidationError, match=fact):
        make()


def test_a_whole_answer_that_goes_in_circles_ends_where_a_stream_would() -> None:
    text = "one two three four " * 100
    body = filter_of(repetition="refuse").whole(whole_of(text))
    (choice,) = json.loads(body)["choices"]
    assert choice["finish_reason"] == "content_filter"
    assert len(choice["message"]["content"]) < 1_000
    streamed = passed(filter_of(repetition="refuse"), stream_of(text), 10_000)
    assert said(streamed) == (choice["message"]["content"], ["content_filter"])


def test_a_choice_that_has_not_begun_is_still_answered_beside_a_refused_one() -> None:
    rules = AnswerRules.model_validate({"topics": [{"name": "t", "words": ["bomb"]}]})
    answer_filter = AnswerFilter(lambda: TextFilter(rules.compiled()), choices=2)
    stream = event("a bomb. ") + event("a cake. ", index=1)
    text, reasons = said(passed(answer_filter, stream))
    assert text == "a a cake. "
    assert reasons == ["content_filter"]
    assert not answer_filter.is_over


def test_a_refusal_at_the_very_end_of_a_stream_is_said() -> None:
    topic = {"name": "weapons", "words": ["pipe bomb"]}
    sent = passed(filter_of(topics=[topic]), event("a pipe bomb") + DONE)
    assert said(sent) == ("a ", ["content_filter"])


@pytest.mark.parametrize("data", [b"[4111111111111111]", b'{"text": "joe@a.org"}'])
def test_an_event_that_is_neither_answer_nor_error_does_not_pass(data: bytes) -> None:
    sent = passed(filter_of(**MASKS), b"data: " + data + b"\n\n" + DONE)
    assert sent == DONE


def test_a_completion_that_is_cut_off_gives_out_what_was_held_in_its_own_form() -> None:
    choice = {"index": 3, "text": "by joe@example.com or a@", "finish_reason": None}
    document = {"object": "text_completion", "choices": [choice]}
    stream = b"data: " + json.dumps(document).encode() + b"\n\n"
    events = passed(filter_of(email="mask"), stream).split(b"\n\n")[:-1]
    documents = [json.loads(each.removeprefix(b"data: ")) for each in events]
    choices = [each["choices"][0] for each in documents]
    assert [each["text"] for each in choices] == ["by [EMAIL] or ", "a@"]
    assert [each["index"] for each in choices] == [3, 3]


# For each further letter it needs twice as long.
SLOW = "(?:a|aa)+$"
LONG = "a" * 60 + "b"


@pytest.mark.parametrize("action", ["mask", "refuse"])
def test_what_an_expression_could_not_look_at_in_time_does_not_pass(
    action: str,
) -> None:
    topics = [{"name": "slow", "patterns": [SLOW], "action": action}]
    slow = filter_of(topics=topics, pattern_seconds=0.01)
    sent = passed(slow, stream_of("x", LONG, "y"), 1000)
    # What was looked at before that had passed already.
    assert said(sent) == ("x", ["content_filter"])
    assert slow.found == {"slow.timeout": 1}


def test_an_expression_that_only_counts_is_given_up_and_the_others_go_on() -> None:
    topics = [
        {"name": "slow", "patterns": [SLOW], "action": "count"},
        {"name": "why", "patterns": ["y+"], "action": "mask"},
    ]
    slow = filter_of(topics=topics, pattern_seconds=0.01)
    whole = json.loads(slow.whole(whole_of(f"{LONG} y")))
    assert whole["choices"][0]["message"]["content"] == f"{LONG} [WHY]"
    assert slow.found == {"slow.timeout": 1, "why.mask": 1}


def test_a_request_is_looked_at_no_further_once_it_is_refused() -> None:
    topics = [{"name": "slow", "patterns": [SLOW]}]
    rules = AnswerRules.model_validate({"topics": topics, "pattern_seconds": 0.01})
    look = RequestLook(rules.compiled())
    assert [look.change(text) for text in ("x", LONG, LONG)] == ["x", "", LONG]
    assert (look.refused_for, look.found) == ("slow", {"slow.timeout": 1})
