"""One request on its way to an engine and back.

Nothing is sent to the client before the engine has sent its first piece of text: a request whose
engine dies before that is given to another engine, once.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi.responses import Response

from pipelines.engines.refusal import Refusal
from serving.answer import error_response
from serving.endpoint.answer_cache import AnswerCache
from serving.endpoint.call import Call
from serving.endpoint.copies import Copier, Copy
from serving.endpoint.feedback import GivenAnswers, IdReader
from serving.endpoint.kept_answer import KeptAnswer
from serving.endpoint.lanes import Lanes, Target, unavailable_error
from serving.endpoint.marks import mark_stand_in
from serving.endpoint.tally import Observation, observing, text_of
from serving.endpoint.upstream import (
    EngineAddress,
    EngineLost,
    EngineReply,
    exchange,
)
from serving.paths import (
    FINGERPRINT_HEADER,
    PROMPT_TOKENS_HEADER,
    RELEASE_HEADER,
)

_FORWARDED_HEADERS = (
    b"content-type",
    b"cache-control",
    b"retry-after",
    PROMPT_TOKENS_HEADER.encode(),
)
# The first engine, and another one where that dies before it has sent anything.
_TRIES = 2
# The first event of a stream only opens the answer, or echoes its prompt; the second one has text.
_EVENTS_BEFORE_START = 2
_SERVER_ERROR = 500
_CUT_OFF = Refusal(
    "The engine ended in the middle of this answer. Ask again.",
    status=500,
    kind="server_error",
    code="engine_lost",
)


class ForwardedResponse(Response):
    """The engine's own answer, byte for byte, with the release in its headers."""

    def __init__(
        self,
        call: Call,
        lanes: Lanes,
        copier: Copier,
        given_answers: GivenAnswers,
        cache: AnswerCache,
    ) -> None:
        super().__init__()
        self._cache = cache
        self._given_answers = given_answers
        self._call = call
        self._lanes = lanes
        self._copier = copier

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer; a client that leaves frees the engine at once."""
        answering = asyncio.create_task(self._answer(scope, receive, send))
        leaving = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await asyncio.wait(
                {answering, leaving}, return_when=asyncio.FIRST_COMPLETED
            )
            if answering.done():
                # Raises what the task raised.
                answering.result()
        finally:
            leaving.cancel()
            # Waited for below: until it has ended it may still send on this connection.
            answering.cancel()
            await asyncio.wait({answering})

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._forward(send)
        except Refusal as refusal:
            response = error_response(refusal)
            await response(scope, receive, send)

    async def _forward(self, send: Any) -> None:
        call = self._call
        name = call.model
        lost_port: int | None = None
        for _ in range(_TRIES):
            target = await self._lanes.bind(
                name,
                lost_port,
                call.patience,
                call.user,
            )
            # Copies of the first try alone: what failed once is not like other requests.
            if lost_port is None:
                target = self._copy(target)
            with target.engine.count_request():
                # Taken now: an engine that is restarted has another address.
                engine = target.engine.address
                lane = self._lanes.table.get(name)
                marked = mark_stand_in(send, lane, target, lost_port)
                try:
                    await self._exchange(engine, target, marked)
                except EngineLost:
                    lost_port = engine.port
                else:
                    return
        raise unavailable_error(name)

    def _copy(self, target: Target) -> Target:
        """Send copies of the request where copies are wanted; gives who counts the answer."""
        lane = self._lanes.table.get(self._call.model)
        copies = None if lane is None else lane.copies
        if copies is None or not copies.are_wanted:
            return target
        sent = tuple(Copy(each, self._call.for_target(each)) for each in copies.targets)
        if not self._copier.send(sent):
            return target
        return replace(target, tally=copies.tally or target.tally)

    async def _exchange(self, engine: EngineAddress, target: Target, send: Any) -> None:
        call = self._call
        kept = KeptAnswer.of(self._cache, target, call)
        if await kept.send_to(send, self._given_answers):
            return
        request = call.for_target(target)
        origin = target.origin_as(call.model)
        id_reader = IdReader(self._given_answers, target.rated_side, origin)
        with observing(target.tally) as observation:
            observed = _observed(kept.watch(send), observation, id_reader)
            async with exchange(engine, request) as reply:
                observation.status = reply.status
                await _send_reply(reply, target, observed)


def _observed(send: Any, observation: Observation, id_reader: IdReader) -> Any:
    """The same `send`, by which both take what is sent."""

    async def send_observed(message: dict[str, Any]) -> None:
        piece = message.get("body", b"")
        observation.take(piece)
        # Before it is sent: a client may rate what it has.
        id_reader.take(piece)
        await send(message)

    return send_observed


async def _send_reply(reply: EngineReply, target: Target, send: Any) -> None:
    """Send the reply to the client; `EngineLost` only while nothing was sent."""
    content_type = reply.headers.get(b"content-type", b"")
    if not content_type.startswith(b"text/event-stream"):
        await _send_whole(reply, target, send)
        return
    async with aclosing(reply.chunks()) as chunks:
        opening = await _read_opening(chunks)
        # It failed before it said anything: what serves answers instead.
        if target.is_on_trial and text_of(opening) is None:
            raise EngineLost("The stream of a release on trial opened with an error.")
        await _send_head(reply, target, send)
        await _send_body(send, opening)
        try:
            async for chunk in chunks:
                await _send_body(send, chunk)
        except EngineLost:
            # The status was sent: only an event can say that the answer is not complete.
            event = f"data: {json.dumps(_CUT_OFF.body())}\n\n"
            await _send_body(send, event.encode())
    await _send_body(send, b"", is_last=True)


async def _send_whole(reply: EngineReply, target: Target, send: Any) -> None:
    body = await reply.read_body()
    if target.is_on_trial and reply.status >= _SERVER_ERROR:
        raise EngineLost("A release on trial answered with an error.")
    # Another one may answer the request.
    if _is_ending(reply.status, body):
        raise EngineLost("The engine is ending.")
    await _send_head(reply, target, send, len(body))
    await _send_body(send, body, is_last=True)


def _is_ending(status: int, body: bytes) -> bool:
    """Whether an engine is closing, or a process that is shared has this release no more."""
    if status == 503:
        return b'"not_ready"' in body
    return status == 404 and b'"release_not_found"' in body


async def _read_opening(chunks: AsyncIterator[bytes]) -> bytes:
    """The stream up to its second event, or to its end."""
    opening = b""
    async for chunk in chunks:
        opening += chunk
        if opening.count(b"\n\n") >= _EVENTS_BEFORE_START:
            break
    return opening


async def _send_head(
    reply: EngineReply, target: Target, send: Any, length: int | None = None
) -> None:
    # By name: an engine's other headers belong to its connection, and not to the client's.
    names = [name for name in _FORWARDED_HEADERS if name in reply.headers]
    headers = [(name, reply.headers[name]) for name in names]
    # What was scored, as the ledger names it; the answer itself names what computed it.
    fingerprint = target.spec.fingerprint
    headers.append((FINGERPRINT_HEADER.encode(), fingerprint.encode()))
    headers.append((RELEASE_HEADER.encode(), target.label.encode()))
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": headers,
        }
    )


async def _send_body(send: Any, content: bytes, *, is_last: bool = False) -> None:
    await send(
        {
            "type": "http.response.body",
            "body": content,
            "more_body": not is_last,
        }
    )


async def _wait_for_disconnect(receive: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
