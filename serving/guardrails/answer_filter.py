"""Answers in OpenAI's form, whole or as a stream, with every text of them filtered.

What nothing is found in passes byte for byte; a stream then only comes in other pieces.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pipelines.engines.refusal import Refusal
from serving.guardrails.hooked_answer import text_place
from serving.guardrails.text_filter import TextFilter

_DONE = b"[DONE]"
_PREFIX = b"data: "
_EVENT_END = b"\n\n"
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
NewFilter = Callable[[], TextFilter]


class AnswerFilter:
    """Filters one answer: a filter of its own for each choice."""

    def __init__(self, new_filter: NewFilter, choices: int = 1) -> None:
        # As many as were asked for: some of them may not have begun when others are refused.
        self._choices = choices
        self.is_over = False
        """Whether a stream was ended here: whatever else comes is not sent."""
        self._new_filter = new_filter
        self._filters: dict[int, TextFilter] = {}
        # Bytes after the last whole event: engines cut where they like.
        self._rest = b""
        # A chunk like those of the engine, for texts that are sent after its last one.
        self._template: dict[str, Any] = {}

    @property
    def found(self) -> Counter[str]:
        """What was found in all choices: `kind.action`, and how often."""
        total: Counter[str] = Counter()
        # Copies: where the client left, a thread may still look at the last piece.
        for text_filter in tuple(self._filters.values()):
            total.update(dict(text_filter.found))
        return total

    def whole(self, body: bytes) -> bytes:
        """A whole answer; the same bytes where it has nothing that is changed.

        `Refusal` where it cannot be read: what nobody looked at does not pass.
        """
        try:
            document = json.loads(body)
            choices = document["choices"]
            changes = [self._change_whole(each) for each in choices]
        except _UNREADABLE as error:
            raise _unreadable_error() from error
        if any(changes):
            return json.dumps(document).encode()
        return body

    def feed(self, chunk: bytes) -> bytes:
        """A piece of a stream; gives what may be sent now."""
        received = self._rest + chunk
        *events, self._rest = received.split(_EVENT_END)
        passed = map(self._pass_event, events)
        return b"".join(passed)

    def feed_last(self, chunk: bytes) -> bytes:
        """The last piece of a stream; gives all that is left to be sent."""
        passed = self.feed(chunk)
        return passed + self.finish()

    def finish(self) -> bytes:
        """The stream ended, whole or cut off; gives what was held back."""
        if self.is_over:
            return b""
        # Half an event is all that an engine left that was lost in the middle of it.
        rest = self._pass_event(self._rest) if self._rest else b""
        return rest + b"".join(self._flush())

    def _pass_event(self, event: bytes) -> bytes:
        if self.is_over:
            return b""
        data = event.removeprefix(_PREFIX)
        if data == event:
            return event + _EVENT_END
        if data.strip() == _DONE:
            return b"".join(self._flush()) + event + _EVENT_END
        try:
            return self._pass_document(event, json.loads(data))
        except _UNREADABLE:
            return self._pass_end_of(event)

    def _pass_end_of(self, event: bytes) -> bytes:
        """Of an event that cannot be read, the one that the endpoint sent after half of it."""
        # Texts of a model are JSON: no quotation mark in them can begin a document of its own.
        place = event.rfind(_PREFIX)
        return self._pass_event(event[place:]) if place > 0 else b""

    def _pass_document(self, event: bytes, document: dict[str, Any]) -> bytes:
        if "choices" not in document:
            # Nobody looked at what is neither an answer nor an error: it does not pass.
            if not isinstance(document, dict) or "error" not in document:
                return b""
            # What was held back was said before the error.
            return b"".join(self._flush()) + event + _EVENT_END
        choices = document["choices"]
        if choices:
            self._template = {**document, "choices": [], "usage": None}
        changes = [self._change_piece(choice) for choice in choices]
        sent = _event_of(document) if any(changes) else event + _EVENT_END
        if self._is_refused_whole:
            self.is_over = True
            sent += _PREFIX + _DONE + _EVENT_END
        return sent

    @property
    def _is_refused_whole(self) -> bool:
        filters = self._filters.values()
        are_refused = [each.refused_for != "" for each in filters]
        refused = sum(are_refused)
        return refused >= self._choices

    def _change_whole(self, choice: dict[str, Any]) -> bool:
        text_filter = self._filter_of(choice)
        holder, name = text_place(choice)
        text = holder.get(name) or ""
        passed = text_filter.feed(text) + text_filter.finish()
        if text_filter.refused_for:
            choice["finish_reason"] = "content_filter"
        return self._put(choice, text, passed)

    def _change_piece(self, choice: dict[str, Any]) -> bool:
        """Change a piece in place; gives whether it is another one now."""
        text_filter = self._filter_of(choice)
        was_refused = text_filter.refused_for != ""
        holder, name = text_place(choice)
        text = holder.get(name) or ""
        passed = text_filter.feed(text)
        if choice.get("finish_reason") is not None:
            passed += text_filter.finish()
        if text_filter.refused_for:
            # Said once: later pieces of this choice are empty.
            choice["finish_reason"] = None if was_refused else "content_filter"
        is_put = self._put(choice, text, passed)
        return is_put or text_filter.refused_for != ""

    def _put(self, choice: dict[str, Any], text: str, passed: str) -> bool:
        # They spell out tokens, also those that are held back.
        has_logprobs = choice.get("logprobs") is not None
        is_unchanged = passed == text
        if is_unchanged and not has_logprobs:
            return False
        holder, name = text_place(choice)
        holder[name] = passed
        choice["logprobs"] = None
        return True

    def _filter_of(self, choice: dict[str, Any]) -> TextFilter:
        index = int(choice.get("index", 0))
        if index not in self._filters:
            self._filters[index] = self._new_filter()
        return self._filters[index]

    def _flush(self) -> Iterator[bytes]:
        """What is still held back, as events of its own."""
        for index, text_filter in self._filters.items():
            was_refused = text_filter.refused_for != ""
            held = text_filter.finish()
            # The end of a text may be what makes it one that is refused.
            is_refused = text_filter.refused_for != "" and not was_refused
            if held or is_refused:
                reason = "content_filter" if is_refused else None
                choice: dict[str, Any] = {"index": index, "finish_reason": reason}
                if self._is_chat:
                    choice["delta"] = {"content": held}
                else:
                    choice["text"] = held
                yield _event_of({**self._template, "choices": [choice]})

    @property
    def _is_chat(self) -> bool:
        kind = self._template.get("object", "chat")
        return str(kind).startswith("chat")


def _event_of(document: dict[str, Any]) -> bytes:
    text = json.dumps(document)
    return f"data: {text}\n\n".encode()


def _unreadable_error() -> Refusal:
    return Refusal(
        "The answer cannot be looked at, as the rules of this endpoint ask. Ask again.",
        status=500,
        kind="server_error",
        code="content_filter",
    )
