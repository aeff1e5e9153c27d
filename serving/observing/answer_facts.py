"""What an answer says of itself: tokens, how it ended, and its text where somebody asks for it."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

# Codes of errors become labels.
_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")
# Ids of answers, as engines make them; anything else is not kept.
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_DONE = b"[DONE]"


@dataclass
class AnswerFacts:
    """What is read of one response. None: it does not say."""

    id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None
    error_code: str | None = None
    text: str = ""


def read_answer(response: bytes, *, is_stream: bool) -> AnswerFacts:
    """The facts of a whole answer, or of a stream, whose beginning may have been cut off."""
    facts = AnswerFacts()
    documents = _events(response) if is_stream else (response,)
    pieces: list[str] = []
    for document in documents:
        # What is cut off, or is no answer, says nothing.
        with suppress(
            ValueError,
            TypeError,
            AttributeError,
            LookupError,
            RecursionError,
        ):
            _read_document(json.loads(document), facts, pieces)
    facts.text = "".join(pieces)
    return facts


def _events(response: bytes) -> Iterator[bytes]:
    for event in response.split(b"\n\n"):
        document = event.removeprefix(b"data: ")
        if document != event and document.strip() != _DONE:
            yield document


def _read_document(document: Any, facts: AnswerFacts, pieces: list[str]) -> None:
    error = document.get("error")
    if error is not None:
        facts.error_code = _matching(_CODE, error.get("code")) or "error"
        return
    facts.id = facts.id or _matching(_ID, document.get("id"))
    usage = document.get("usage")
    if usage is not None:
        facts.prompt_tokens = _count(usage.get("prompt_tokens"))
        facts.completion_tokens = _count(usage.get("completion_tokens"))
    for choice in document.get("choices", ()):
        reason = _matching(_CODE, choice.get("finish_reason"))
        facts.finish_reason = reason or facts.finish_reason
        # Of several answers to one request the first one stands for all.
        if choice.get("index", 0) == 0:
            pieces.append(_text_of(choice))


def _text_of(choice: Any) -> str:
    """Of a choice of any route: a message, a piece of one, or a completion."""
    for part in ("message", "delta"):
        if part in choice:
            return choice[part].get("content") or ""
    return choice.get("text") or ""


def _matching(pattern: re.Pattern[str], text: Any) -> str | None:
    if isinstance(text, str) and pattern.fullmatch(text):
        return text
    return None


def _count(number: Any) -> int | None:
    if isinstance(number, int) and number >= 0:
        return number
    return None
