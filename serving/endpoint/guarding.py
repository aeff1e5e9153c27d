"""Guardrails around one request: before an engine sees it, and before its client sees the answer.

Probes of releases and copies for canaries ask engines directly: what is compared with the scores is
what the engine said, not what was left of it here.
"""

import json
from collections import Counter
from functools import partial
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from core.log import say
from pipelines.engines.refusal import Refusal
from serving.guardrails.answer_filter import AnswerFilter
from serving.guardrails.hook import Hook, HookVerdict, Side
from serving.guardrails.hooked_answer import replace_texts, texts_of
from serving.guardrails.looking import Looking, RequestLook
from serving.guardrails.request_texts import (
    change_texts,
    count_choices,
    has_token_ids,
    texts_in,
)
from serving.guardrails.rules import GuardRules, RequestRules
from serving.guardrails.text_filter import TextFilter
from serving.observing.exchange import Exchange

# Bytes of a stream that is held back whole for a hook.
_LONGEST_HELD = 4_000_000


class Guardrails:
    """What the rules look for, ready to look for it."""

    def __init__(self, rules: GuardRules) -> None:
        self._rules = rules
        self._request = rules.request.compiled()
        self._response = rules.response.compiled()
        self._looking_at_requests = Looking(self._request)
        self.looking_at_answers = Looking(self._response)
        self._request_hook = _open_hook(rules.request)
        self._response_hook = _open_hook(rules.response)

    async def check_request(self, body: bytes, exchange: Exchange) -> bytes:
        """The body as the engine is to see it; `Refusal` where it is not to see it at all."""
        if self._rules.request.is_empty:
            return body
        if has_token_ids(body):
            raise _unreadable_error()
        look = RequestLook(self._request)
        change = partial(change_texts, change=look.change)
        body = await self._looking_at_requests.at(body, change)
        # A hook may be slow, and sees only what patterns let through, masked.
        if self._request_hook is not None and not look.refused_for:
            body = await self._ask_of_request(self._request_hook, body, look)
        note(exchange, "request", look.found)
        if look.refused_for:
            raise _refused_error(look.refused_for)
        return body

    def around(
        self, response: Response, exchange: Exchange, body: bytes = b""
    ) -> Response:
        """The response to a body with its answer filtered; the same one without rules."""
        if self._rules.response.is_empty:
            return response
        answer_filter = self.new_answer_filter(count_choices(body))
        return _GuardedResponse(response, self, exchange, answer_filter)

    def new_answer_filter(self, choices: int = 1) -> AnswerFilter:
        """For one answer, which may have several choices."""
        repetition = self._rules.response.repetition

        def new_filter() -> TextFilter:
            return TextFilter(
                self._response,
                repetition,
            )

        return AnswerFilter(new_filter, choices)

    @property
    def response_hook(self) -> Hook | None:
        """What looks at whole answers."""
        return self._response_hook

    async def _ask_of_request(
        self, hook: Hook, body: bytes, look: RequestLook
    ) -> bytes:
        # Asked first, put after that: changing a body cannot wait for a thread.
        verdicts: dict[str, HookVerdict] = {}
        for text in texts_in(body):
            verdict = await hook.ask("request", text)
            verdicts[text] = verdict
            count_verdict(look.found, verdict)
            if verdict.is_refused:
                look.refused_for = "hook"

        def replaced(text: str) -> str:
            return verdicts[text].text

        return change_texts(body, replaced)


class _GuardedResponse(Response):
    """A response whose answer passes through filters on its way to the client."""

    def __init__(
        self,
        inner: Response,
        guardrails: Guardrails,
        exchange: Exchange,
        answer_filter: AnswerFilter,
    ) -> None:
        super().__init__()
        self._inner = inner
        self._guardrails = guardrails
        self._exchange = exchange
        self._filter = answer_filter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; what was found is noted, also where the client leaves."""
        passage = _Passage(self._filter, self._guardrails, send)
        # The exchange is written once the outermost app has seen the end.
        try:
            await self._inner(scope, receive, passage.send)
        finally:
            note(self._exchange, "response", passage.found)


class _Passage:
    """One answer on its way out."""

    def __init__(
        self, answer_filter: AnswerFilter, guardrails: Guardrails, send: Send
    ) -> None:
        self._send = send
        self._filter = answer_filter
        self._looking = guardrails.looking_at_answers
        self._hook = guardrails.response_hook
        self._hook_found: Counter[str] = Counter()
        self._head: Message | None = None
        self._body = bytearray()
        self._is_stream = False
        self._is_filtered = False
        self._has_ended = False

    @property
    def found(self) -> Counter[str]:
        """What was found in it."""
        return self._filter.found + self._hook_found

    async def send(self, message: Message) -> None:
        """Take a message of the answer; give the client what it may see of it."""
        if message["type"] == "http.response.start":
            await self._take_head(message)
        elif not self._is_filtered:
            await self._send(message)
        elif not self._has_ended:
            await self._take_body(message)

    async def _take_head(self, message: Message) -> None:
        kind = _header(message, b"content-type")
        self._is_stream = kind.startswith(b"text/event-stream")
        # An error holds nothing of a model's. Whatever else is no stream has to be a whole
        # answer, whatever its type says: what cannot be read does not pass.
        self._is_filtered = message["status"] == 200
        if self._is_filtered and not self._is_stream:
            # Its length is known once it is filtered.
            self._head = message
        else:
            await self._send(message)

    async def _take_body(self, message: Message) -> None:
        piece = message.get("body", b"")
        is_last = not message.get("more_body", False)
        if not self._is_stream:
            await self._take_whole(piece, is_last=is_last)
            return
        look = self._filter.feed_last if is_last else self._filter.feed
        passed = await self._looking.at(piece, look)
        is_last = is_last or self._filter.is_over
        if self._hook is not None:
            passed = await self._hold_for_hook(self._hook, passed, is_last=is_last)
        # A hook may have ended it already.
        if (passed or is_last) and not self._has_ended:
            await self._send_body(passed, is_last=is_last)

    async def _take_whole(self, piece: bytes, *, is_last: bool) -> None:
        self._body += piece
        if not is_last or self._head is None:
            return
        answer = bytes(self._body)
        body = await self._looking.at(answer, self._filter.whole)
        if self._hook is not None:
            body = await self._ask(self._hook, body)
        await self._send(_with_length(self._head, len(body)))
        await self._send_body(body, is_last=True)

    async def _hold_for_hook(
        self, hook: Hook, passed: bytes, *, is_last: bool
    ) -> bytes:
        """Nothing before the end; then all of it, or what is to stand in its place."""
        self._body += passed
        if len(self._body) > _LONGEST_HELD:
            # The status was sent: only an event can say that nothing of the answer comes.
            await self._send_body(_event_of(_too_long_error()), is_last=True)
            self._body.clear()
            return b""
        return await self._ask(hook, bytes(self._body)) if is_last else b""

    async def _ask(self, hook: Hook, answer: bytes) -> bytes:
        texts = texts_of(answer, is_stream=self._is_stream)
        verdicts: dict[int, HookVerdict] = {}
        for index, text in texts.items():
            verdict = await hook.ask("response", text)
            count_verdict(self._hook_found, verdict)
            if verdict.action != "pass":
                verdicts[index] = verdict
        return replace_texts(answer, verdicts, is_stream=self._is_stream)

    async def _send_body(self, body: bytes, *, is_last: bool) -> None:
        self._has_ended = is_last
        await self._send(
            {"type": "http.response.body", "body": body, "more_body": not is_last}
        )


def note(exchange: Exchange, side: Side, found: Counter[str]) -> None:
    """Have what was found counted, and written to the log without any text."""
    if not found:
        return
    facts: list[str] = []
    for action, count in sorted(found.items()):
        exchange.actions[f"{side}.{action}"] += count
        facts.append(f"{action} {count}")
    said = ", ".join(facts)
    say(f"Guardrails, {side}: {said}")


def count_verdict(found: Counter[str], verdict: HookVerdict) -> None:
    """Count what a hook did, where it did anything."""
    if verdict.action != "pass":
        found[f"hook.{verdict.action}"] += 1


def _open_hook(rules: RequestRules) -> Hook | None:
    if rules.hook is None:
        return None
    return Hook(
        rules.hook,
        rules.hook_seconds,
    )


def _event_of(refusal: Refusal) -> bytes:
    return f"data: {json.dumps(refusal.body())}\n\n".encode()


def _header(message: Message, name: bytes) -> bytes:
    headers: list[Any] = message.get("headers", [])
    for each, content in headers:
        if each.lower() == name:
            return bytes(content)
    return b""


def _with_length(message: Message, length: int) -> Message:
    kept = [
        (name, content)
        for name, content in message["headers"]
        if name.lower() != b"content-length"
    ]
    kept.append((b"content-length", str(length).encode()))
    return {**message, "headers": kept}


def _refused_error(kind: str) -> Refusal:
    return Refusal(
        f"The request holds what the rules of this endpoint do not let through ({kind}). "
        "Leave it out.",
        code="content_filter",
    )


def _unreadable_error() -> Refusal:
    return Refusal(
        "The prompt is token ids, in which the rules of this endpoint cannot be looked for: "
        "send a text.",
        code="content_filter",
        param="prompt",
    )


def _too_long_error() -> Refusal:
    return Refusal(
        "The answer is too long to be looked at as a whole. Ask for a shorter one.",
        status=500,
        kind="server_error",
        code="content_filter",
    )
