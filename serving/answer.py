"""One answer on its way from the engine's thread to a client, whole or as server-sent events."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from serving.engines import Engine, Event, Failed, Finished, Order, Piece
from serving.openai_schema import (
    AssistantMessage,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    Usage,
    usage,
)
from serving.refusal import Refusal, not_ready


@dataclass(frozen=True)
class About:
    """What every part of one answer says about itself."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    prompt_tokens: int

    @classmethod
    def of(cls, engine: Engine, order: Order) -> "About":
        """A new answer to `order`."""
        fingerprint = engine.specs[order.model].fingerprint
        return cls(
            f"chatcmpl-{uuid.uuid4().hex}",
            int(time.time()),
            order.model,
            fingerprint,
            len(order.prompt),
        )

    def envelope(self) -> dict[str, Any]:
        """The fields that a completion and its chunks share."""
        return {
            "id": self.id,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }


class Answer:
    """The engine's events, brought from its thread to the event loop."""

    def __init__(self, engine: Engine, order: Order) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self.cancel = engine.submit(order, self._deliver)

    async def __aiter__(self) -> AsyncIterator[Piece | Finished]:
        """Pieces, then `Finished`; a `Refusal` where the engine failed."""
        event: Event | None = None
        while not isinstance(event, Finished):
            event = await self._events.get()
            if isinstance(event, Failed):
                raise Refusal(
                    event.message, status=500, kind="server_error", code="engine_failed"
                )
            yield event

    def _deliver(self, event: Event) -> None:
        with contextlib.suppress(
            RuntimeError
        ):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


async def whole_answer(
    answer: Answer, about: About, header: dict[str, str]
) -> Response:
    """Collect an answer; a failure is an error response that still names what failed."""
    pieces: list[str] = []
    try:
        async for event in answer:
            if isinstance(event, Finished):
                return _completion(about, "".join(pieces), event, header)
            pieces.append(event.text)
    except Refusal as refusal:
        return error_response(refusal, header)
    raise AssertionError("an answer ends in Finished or Failed")


def _completion(
    about: About, content: str, finished: Finished, header: dict[str, str]
) -> Response:
    if finished.reason == "cancelled":
        return error_response(not_ready(), header)
    choice = Choice(
        message=AssistantMessage(content=content), finish_reason=finished.reason
    )
    completion = ChatCompletion(
        **about.envelope(),
        choices=(choice,),
        usage=usage(about.prompt_tokens, finished),
    )
    return JSONResponse(completion.model_dump(), headers=header)


async def event_chunks(
    answer: Answer, about: About, *, includes_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events. A stream that fails says so in an `error` event: it never just stops."""
    yield _chunk(about, ChunkChoice(delta=Delta(role="assistant", content="")))
    try:
        async for event in answer:
            if isinstance(event, Piece):
                yield _chunk(about, ChunkChoice(delta=Delta(content=event.text)))
            elif event.reason == "cancelled":
                raise not_ready()
            else:
                yield _chunk(
                    about, ChunkChoice(delta=Delta(), finish_reason=event.reason)
                )
                if includes_usage:
                    yield _chunk(about, None, usage(about.prompt_tokens, event))
    except Refusal as refusal:
        yield f"data: {json.dumps(refusal.body())}\n\n"
        return
    yield "data: [DONE]\n\n"


def _chunk(
    about: About, choice: ChunkChoice | None, counted: Usage | None = None
) -> str:
    chunk = ChatChunk(
        **about.envelope(), choices=() if choice is None else (choice,), usage=counted
    )
    return f"data: {chunk.model_dump_json()}\n\n"


class EventStream(StreamingResponse):
    """A stream that stops the engine however it ends, even before its first event."""

    def __init__(
        self, answer: Answer, chunks: AsyncIterator[str], header: dict[str, str]
    ) -> None:
        super().__init__(
            chunks,
            headers={**header, "cache-control": "no-store"},
            media_type="text/event-stream",
        )
        self._answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the stream, and leave the engine free whatever becomes of the client."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancel()


async def unless_gone(
    request: Request, answer: Answer, making: Coroutine[Any, Any, Response]
) -> Response:
    """The answer, or an empty response to nobody where the client has left meanwhile; the engine stops either way."""
    made = asyncio.ensure_future(making)
    gone = asyncio.ensure_future(_client_leaves(request))
    try:
        await asyncio.wait({made, gone}, return_when=asyncio.FIRST_COMPLETED)
        return made.result() if made.done() else Response(status_code=499)
    finally:
        answer.cancel()
        made.cancel()
        gone.cancel()


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def error_response(refusal: Refusal, header: dict[str, str] | None = None) -> Response:
    """A refusal in OpenAI's form. 503 says when to come back; OpenAI's client does so by itself."""
    retry = {"retry-after": "2"} if refusal.status == 503 else {}
    return JSONResponse(
        refusal.body(), status_code=refusal.status, headers={**(header or {}), **retry}
    )
