"""Every text that a model would read is looked at, as it would read it."""

import json
from typing import Any

import pytest

from serving.guardrails.request_texts import change_texts, count_choices
from serving.guardrails.rules import RequestRules
from serving.guardrails.text_filter import filtered

PATTERNS = RequestRules(card="mask").compiled()


def masked(content: Any) -> Any:
    body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    changed = change_texts(body, lambda text: filtered(PATTERNS, text)[0])
    return json.loads(changed)["messages"][0]["content"]


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def test_what_is_cut_in_two_parts_is_found() -> None:
    assert masked(parts("by 4111 1111 ", "1111 1111")) == parts("by [CARD]")


def test_parts_in_which_nothing_is_found_stay_parts() -> None:
    assert masked(parts("by 4111 1111 ", "or not")) == parts("by 4111 1111 ", "or not")


@pytest.mark.parametrize(
    "content",
    [[], [3, {"type": "text", "text": "4111 1111 1111 1111"}], [{"text": 3}], None],
)
def test_a_content_that_is_wrong_stays_wrong(content: Any) -> None:
    assert "4111" not in json.dumps(masked(content))


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 1),
        ({"n": 3}, 3),
        ({"n": -1}, 1),
        ({"n": "3"}, 1),
        ({"prompt": ["a", "b"], "n": 2}, 4),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1], [2]]}, 2),
        ({"prompt": []}, 1),
        ({"prompt": "a"}, 1),
    ],
)
def test_answers_that_are_asked_for_are_counted(
    fields: dict[str, Any], count: int
) -> None:
    assert count_choices(json.dumps(fields).encode()) == count


def test_what_is_no_request_asks_for_one_answer() -> None:
    assert count_choices(b"[]") == count_choices(b"{") == 1
