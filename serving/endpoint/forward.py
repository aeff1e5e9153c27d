"""One request on its way to an engine and back.

Nothing is sent to the client before the engine has said its first words: a request whose engine dies before that is given to another, once.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, ValidationError

from serving.answer import error_response
from serving.endpoint.lanes import Lanes, Target, away
from serving.endpoint.probe import CHAT
from serving.endpoint.upstream import Asked, EngineLost, Reply, exchange
from serving.openai_schema import parse_request
from serving.refusal import Refusal

RELEASE_HEADER = b"x-assay-release"
_PASSED_ON = (b"content-type", b"x-assay-fingerprint", b"cache-control", b"retry-after")
_TRIES = 2
_WORDS = 2  # events of a stream: the first one only says that somebody listens
_CUT_OFF = Refusal(
    "The engine ended in the middle of this answer. Ask again.",
    status=500,
    kind="server_error",
    code="engine_lost",
)


class _Named(BaseModel):
    """As much of a body as the endpoint itself needs; the engine reads all of it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str


def model_named(body: bytes) -> str:
    """The model that a request names; a body that is no request is a `Refusal`."""
    try:
        return _Named.model_validate_json(body).model
    except ValidationError:
        return parse_request(body).model


@dataclass(frozen=True)
class Question:
    """What a client asks, whole, and how long it may wait for an engine that is being restarted."""

    model: str
    body: bytes
    patience: float

    def asked(self, target: Target) -> Asked:
        """The request as the target's engine is to see it: the base is asked by its own name."""
        if target.model == self.model:
            return Asked("POST", CHAT, self.body)
        parse_request(self.body)  # so that what is read next is known to be harmless
        return Asked(
            "POST",
            CHAT,
            json.dumps({**json.loads(self.body), "model": target.model}).encode(),
        )


class Forwarded(Response):
    """The engine's own answer, byte for byte, with the release in its headers."""

    def __init__(self, question: Question, lanes: Lanes) -> None:
        super().__init__()
        self._question = question
        self._lanes = lanes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer; a client that leaves frees the engine at once."""
        answering = asyncio.create_task(self._answer(scope, receive, send))
        leaving = asyncio.create_task(_client_leaves(receive))
        try:
            await asyncio.wait(
                {answering, leaving}, return_when=asyncio.FIRST_COMPLETED
            )
            if answering.done():
                answering.result()
        finally:
            leaving.cancel()
            answering.cancel()
            await asyncio.wait({answering})

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._try(send)
        except Refusal as refusal:
            await error_response(refusal)(scope, receive, send)

    async def _try(self, send: Any) -> None:
        lost: int | None = None
        for _ in range(_TRIES):
            target = await self._lanes.bind(
                self._question.model, lost, self._question.patience
            )
            with target.engine.carrying():
                engine = target.engine.address
                try:
                    async with exchange(engine, self._question.asked(target)) as reply:
                        await _pass_on(reply, target, send)
                        return
                except EngineLost:
                    lost = engine.port
        raise away(self._question.model)


async def _pass_on(reply: Reply, target: Target, send: Any) -> None:
    """Bring the reply to the client; `EngineLost` only while nothing was sent."""
    if not reply.headers.get(b"content-type", b"").startswith(b"text/event-stream"):
        await _pass_on_whole(reply, target, send)
        return
    async with aclosing(reply.chunks()) as chunks:
        first = await _first_words(chunks)
        await _start(reply, target, send)
        await send({"type": "http.response.body", "body": first, "more_body": True})
        try:
            async for chunk in chunks:
                await send(
                    {"type": "http.response.body", "body": chunk, "more_body": True}
                )
        except EngineLost:
            await send(
                {
                    "type": "http.response.body",
                    "body": f"data: {json.dumps(_CUT_OFF.body())}\n\n".encode(),
                    "more_body": True,
                }
            )
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pass_on_whole(reply: Reply, target: Target, send: Any) -> None:
    body = await reply.whole()
    if reply.status == 503 and b'"not_ready"' in body:
        raise EngineLost("The engine is ending.")
    await _start(reply, target, send, len(body))
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _first_words(chunks: AsyncIterator[bytes]) -> bytes:
    """The stream up to its second event, or to its end."""
    words = b""
    async for chunk in chunks:
        words += chunk
        if words.count(b"\n\n") >= _WORDS:
            break
    return words


async def _start(
    reply: Reply, target: Target, send: Any, length: int | None = None
) -> None:
    headers = [
        (name, reply.headers[name]) for name in _PASSED_ON if name in reply.headers
    ]
    headers.append((RELEASE_HEADER, target.label.encode()))
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send(
        {"type": "http.response.start", "status": reply.status, "headers": headers}
    )


async def _client_leaves(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
