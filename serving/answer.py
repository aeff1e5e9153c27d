"""The response that brings an answer to its client, whole or as server-sent events."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from pipelines.engines import Finished
from pipelines.engines.refusal import Refusal
from serving.answer_events import AnswerEvents
from serving.forms.common import AnswerForm, TextParts

# OpenAI's client waits so long before it asks again by itself.
_SECONDS_TO_COME_BACK = 2


async def collect_answer(
    events: AnswerEvents, form: AnswerForm, header: dict[str, str]
) -> Response:
    """The whole answer as one response.

    A failure is an error response, whose header still names what failed.
    """
    parts = [TextParts() for _ in range(form.text_count)]
    try:
        async for number, event in events:
            parts[number].take(event)
    except Refusal as refusal:
        return error_response(refusal, header)
    answer = form.write_whole(parts)
    return JSONResponse(answer.model_dump(), headers=header)


async def stream_events(
    events: AnswerEvents, form: AnswerForm, *, includes_usage: bool
) -> AsyncIterator[str]:
    """The answer as server-sent events.

    A stream that fails says so in an `error` event: it never just stops.
    """
    # By what each text says at its end: pieces may hold several tokens, or none.
    completion_tokens = 0
    try:
        async for number, event in events:
            if isinstance(event, Finished):
                completion_tokens += event.completion_tokens
            for chunk in form.write_chunks(number, event):
                yield f"data: {chunk.model_dump_json()}\n\n"
    except Refusal as refusal:
        yield f"data: {json.dumps(refusal.body())}\n\n"
        return
    if includes_usage:
        usage = form.write_usage(completion_tokens)
        yield f"data: {usage.model_dump_json()}\n\n"
    yield "data: [DONE]\n\n"


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
        # The engine first: it works on for as long as nobody tells it.
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
    # A copy: the caller may send its header with another answer.
    headers = dict(header or {})
    seconds = refusal.retry_after
    if refusal.status == 503:
        seconds = seconds or _SECONDS_TO_COME_BACK
    if seconds is not None:
        headers["retry-after"] = str(seconds)
    return JSONResponse(refusal.body(), status_code=refusal.status, headers=headers)
