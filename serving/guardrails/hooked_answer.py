"""The texts of a whole answer or of a stream that was held back, and others in their place."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from serving.guardrails.hook import HookVerdict

_PREFIX = b"data: "
_EVENT_END = b"\n\n"


def texts_of(answer: bytes, *, is_stream: bool) -> dict[int, str]:
    """The text of each choice."""
    texts: dict[int, str] = {}
    for document in _documents(answer, is_stream=is_stream):
        for choice in document.get("choices", ()):
            index = int(choice.get("index", 0))
            holder, name = text_place(choice)
            texts[index] = texts.get(index, "") + (holder.get(name) or "")
    return texts


def replace_texts(
    answer: bytes, verdicts: Mapping[int, HookVerdict], *, is_stream: bool
) -> bytes:
    """The answer with other texts; the same bytes where there is none.

    In a stream the new text is in the first piece of its choice, and later ones are empty.
    """
    if not verdicts:
        return answer
    if not is_stream:
        document = json.loads(answer)
        _replace(document, dict(verdicts))
        return json.dumps(document).encode()
    # Each text is put once.
    pending = dict(verdicts)
    return b"".join(_replaced_events(answer, pending, verdicts))


def text_place(choice: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Where a choice has its text: in a message, in a piece of one, or by itself."""
    for part in ("message", "delta"):
        if part in choice:
            return choice[part], "content"
    return choice, "text"


def _replaced_events(
    answer: bytes, pending: dict[int, HookVerdict], verdicts: Mapping[int, HookVerdict]
) -> Iterator[bytes]:
    for event in answer.split(_EVENT_END):
        document = _document_of(event)
        if document is None:
            yield event + _EVENT_END if event else b""
            continue
        for choice in document.get("choices", ()):
            _replace_piece(choice, pending, verdicts)
        yield _PREFIX + json.dumps(document).encode() + _EVENT_END


def _replace(document: dict[str, Any], verdicts: dict[int, HookVerdict]) -> None:
    for choice in document["choices"]:
        verdict = verdicts.get(int(choice.get("index", 0)))
        if verdict is None:
            continue
        holder, name = text_place(choice)
        holder[name] = "" if verdict.is_refused else verdict.text
        choice["logprobs"] = None
        if verdict.is_refused:
            choice["finish_reason"] = "content_filter"


def _replace_piece(
    choice: dict[str, Any],
    pending: dict[int, HookVerdict],
    verdicts: Mapping[int, HookVerdict],
) -> None:
    index = int(choice.get("index", 0))
    verdict = verdicts.get(index)
    if verdict is None:
        return
    holder, name = text_place(choice)
    is_first = pending.pop(index, None) is not None
    shows = is_first and not verdict.is_refused
    holder[name] = verdict.text if shows else ""
    choice["logprobs"] = None
    if verdict.is_refused:
        choice["finish_reason"] = "content_filter" if is_first else None


def _documents(answer: bytes, *, is_stream: bool) -> Iterator[dict[str, Any]]:
    if not is_stream:
        yield json.loads(answer)
        return
    for event in answer.split(_EVENT_END):
        document = _document_of(event)
        if document is not None:
            yield document


def _document_of(event: bytes) -> dict[str, Any] | None:
    """What an event holds; None where it is no answer, such as the mark of the end."""
    data = event.removeprefix(_PREFIX)
    if data == event:
        return None
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
