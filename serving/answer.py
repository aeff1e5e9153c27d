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

from serving.engines import Engine, Event, Failed, Finished, GenerationRequest, Piece
from serving.openai_schema import (
    AssistantMessage,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    Delta,
    Usage,
    count_usage,
)
from serving.refusal import Refusal, not_ready_error

# OpenAI's client waits so long before it asks again by itself.
_SECONDS_TO_COME_BACK = "2"


@dataclass(frozen=True)
class AnswerMetadata:
    """What every part of one answer says about itself."""

    id: str
    # Seconds since 1970, as OpenAI's API counts them.
    created: int
    model: str
    system_fingerprint: str
    prompt_tokens: int

    @classmethod
    def of(cls, engine: Engine, request: GenerationRequest) -> "AnswerMetadata":
        """A new answer to `request`."""
        spec = engine.specs[request.model]
        return cls(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=request.model,
            system_fingerprint=spec.fingerprint,
            prompt_tokens=len(request.prompt),
        )

    def shared_fields(self) -> dict[str, Any]:
        """The fields that a completion and its chunks share."""
        return {
            "id": self.id,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
        }


class AnswerEvents:
    """The engine's events for one answer, brought from its thread to the event loop."""

    def __init__(self, engine: Engine, request: GenerationRequest) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self.cancel = engine.submit(request, self._deliver)

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
        # RuntimeError: the loop is closed, so nobody listens any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


async def collect_answer(
    events: AnswerEvents, metadata: AnswerMetadata, header: dict[str, str]
) -> Response:
    """The whole answer as one response.

    A failure is an error response, whose header still names what failed. `AssertionError` where
    the engine breaks its promise that an answer ends in `Finished` or `Failed`.
    """
    pieces: list[str] = []
    try:
        async for event in events:
            if isinstance(event, Finished):
                content = "".join(pieces)
                return _completion_response(metadata, content, event, header)
            pieces.append(event.text)
    except Refusal as refusal:
        return error_response(refusal, header)
    raise AssertionError("an answer ends in Finished or Failed")


def _completion_response(
    metadata: AnswerMetadata, content: str, finished: Finished, header: dict[str, str]
) -> Response:
    # The client still waits, so it was the engine that closed.
    if finished.reason == "cancelled":
        return error_response(not_ready_error(), header)
    choice = Choice(
        message=AssistantMessage(content=content), finish_reason=finished.reason
    )
    completion = ChatCompletion(
        **metadata.shared_fields(),
        choices=(choice,),
        usage=count_usage(metadata.prompt_tokens, finished),
    )
    return JSONResponse(completion.model_dump(), headers=header)


async def stream_events(
    events: AnswerEvents, metadata: AnswerMetadata, *, includes_usage: bool
) -> AsyncIterator[str]:
    """The answer as server-sent events.

    A stream that fails says so in an `error` event: it never just stops.
    """
    opening = ChunkChoice(delta=Delta(role="assistant", content=""))
    yield _format_chunk(metadata, opening)
    try:
        async for event in events:
            if isinstance(event, Piece):
                choice = ChunkChoice(delta=Delta(content=event.text))
                yield _format_chunk(metadata, choice)
            elif event.reason == "cancelled":
                raise not_ready_error()
            else:
                choice = ChunkChoice(delta=Delta(), finish_reason=event.reason)
                yield _format_chunk(metadata, choice)
                if includes_usage:
                    usage = count_usage(metadata.prompt_tokens, event)
                    yield _format_chunk(metadata, None, usage)
    except Refusal as refusal:
        yield f"data: {json.dumps(refusal.body())}\n\n"
        return
    yield "data: [DONE]\n\n"


def _format_chunk(
    metadata: AnswerMetadata, choice: ChunkChoice | None, usage: Usage | None = None
) -> str:
    # The chunk that counts tokens comes last and has no choice, as in OpenAI's API.
    choices = () if choice is None else (choice,)
    chunk = ChatChunk(
        **metadata.shared_fields(),
        choices=choices,
        usage=usage,
    )
    return f"data: {chunk.model_dump_json()}\n\n"


class EventStreamResponse(StreamingResponse):
    """A stream that stops the engine however it ends, even before its first event."""

    def __init__(
        self, events: AnswerEvents, chunks: AsyncIterator[str], header: dict[str, str]
    ) -> None:
        super().__init__(
            chunks,
            headers={**header, "cache-control": "no-store"},
            media_type="text/event-stream",
        )
        self._events = events

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the stream, and leave the engine free whatever becomes of the client."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._events.cancel()


async def respond_unless_disconnected(
    request: Request, events: AnswerEvents, collecting: Coroutine[Any, Any, Response]
) -> Response:
    """The response, or an empty one to nobody where the client has left before it is complete.

    The engine stops either way.
    """
    response = asyncio.ensure_future(collecting)
    disconnect = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({response, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if response.done():
            return response.result()
        return Response(status_code=499)
    finally:
        events.cancel()
        response.cancel()
        disconnect.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return


def error_response(refusal: Refusal, header: dict[str, str] | None = None) -> Response:
    """A refusal in OpenAI's form. 503 says when to come back; OpenAI's client does so by itself."""
    headers = dict(header or {})
    if refusal.status == 503:
        headers["retry-after"] = _SECONDS_TO_COME_BACK
    return JSONResponse(refusal.body(), status_code=refusal.status, headers=headers)
