"""The engine's HTTP interface: OpenAI's routes in front of one engine.

The endpoint's own app (`serving.endpoint.routes`) shares the helpers for bodies, names and errors.
"""

import asyncio
import codecs
import contextlib
import re
import time
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pipelines.values.dataset import Message
from serving.answer import (
    AnswerEvents,
    AnswerMetadata,
    EventStreamResponse,
    collect_answer,
    error_response,
    respond_unless_disconnected,
    stream_events,
)
from serving.engines import Engine, GenerationRequest
from serving.openai_schema import (
    MAX_BODY_BYTES,
    MODEL_NAME,
    ChatRequest,
    ModelCard,
    ModelList,
    parse_request,
)
from serving.refusal import Refusal, internal_error, not_ready_error

FINGERPRINT_HEADER = "x-assay-fingerprint"
# A load balancer asks with HEAD.
READ = ["GET", "HEAD"]
_JSON = re.compile(r"application/([a-z0-9!#$&^_.-]+\+)?json")
_SECONDS_FOR_A_BODY = 20.0
# Characters: up to here a tokenizer needs hundredths of a second.
_LONG_PROMPT = 32_768


def create_app(engine: Engine) -> FastAPI:
    """The HTTP interface of a loaded engine. Its routes raise `Refusal`, which clients see."""
    app = create_bare_app()
    started = int(time.time())
    encoder = _PromptEncoder(engine)
    add_error_handlers(app)

    @app.api_route("/healthz", methods=READ)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/readyz", methods=READ)
    async def readyz() -> dict[str, str]:
        if not engine.is_ready:
            raise not_ready_error()
        return {"status": "ready"}

    @app.api_route("/v1/models", methods=READ)
    async def models() -> ModelList:
        names = engine.specs
        cards = [_model_card(engine, name, started) for name in names]
        return ModelList(data=tuple(cards))

    @app.api_route("/v1/models/{name}", methods=READ)
    async def model(name: str) -> ModelCard:
        _check_model(engine, name)
        return _model_card(engine, name, started)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await _chat(engine, encoder, request)

    return app


def create_bare_app() -> FastAPI:
    """An app without pages, so that nothing is fetched from elsewhere, and without redirects."""
    return FastAPI(
        title="Assay",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )


class _PromptEncoder:
    """Token ids of conversations. Long ones one at a time, so that short ones find a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._long_prompt = asyncio.Lock()

    async def encode(self, messages: Sequence[Message], model: str) -> list[int]:
        """As the engine's own `prompt_ids`, beside the event loop."""
        lengths = (len(message.content) for message in messages)
        is_long = sum(lengths) > _LONG_PROMPT
        # Short ones do not wait: many long ones at once would take all the threads.
        turn = self._long_prompt if is_long else contextlib.nullcontext()
        prompt_ids = self._engine.prompt_ids
        async with turn:
            return await asyncio.to_thread(
                prompt_ids,
                messages,
                model,
            )


async def _chat(engine: Engine, encoder: _PromptEncoder, request: Request) -> Response:
    body = await read_body(request)
    chat = parse_request(body)
    _check_model(engine, chat.model)
    # From here on every response names what answers or would have answered, errors included.
    spec = engine.specs[chat.model]
    header = {FINGERPRINT_HEADER: spec.fingerprint}
    try:
        generation = await _fit_into_context(engine, encoder, chat)
        events = AnswerEvents(engine, generation)
    except Refusal as refusal:
        return error_response(refusal, header)
    metadata = AnswerMetadata.of(engine, generation)
    if chat.stream:
        chunks = stream_events(events, metadata, includes_usage=chat.includes_usage)
        return EventStreamResponse(events, chunks, header)
    collecting = collect_answer(events, metadata, header)
    return await respond_unless_disconnected(request, events, collecting)


def _check_model(engine: Engine, name: str) -> None:
    check_name(name)
    if name not in engine.specs:
        raise Refusal(
            f"The model {name} is not served here. GET /v1/models lists what is.",
            status=404,
            code="model_not_found",
            param="model",
        )


def check_name(name: str) -> None:
    """Return only if this may be a model's name: a `Refusal` otherwise.

    A name is looked up among those that are served, and never used as a path.
    """
    if not MODEL_NAME.fullmatch(name):
        raise Refusal(
            "model is the name of a served model, not a path. GET /v1/models lists them.",
            code="invalid_model",
            param="model",
        )


async def read_body(request: Request) -> bytes:
    """The request's body, which says that it is JSON.

    `Refusal` where it is of another type, too large, compressed, or not there in time.
    """
    _check_headers(request.headers)
    try:
        async with asyncio.timeout(_SECONDS_FOR_A_BODY):
            body = await _read_up_to_limit(request)
    except TimeoutError:
        raise Refusal(
            f"The body did not arrive within {_SECONDS_FOR_A_BODY:.0f} s. Send it again.",
            status=408,
            code="timeout",
        ) from None
    except ClientDisconnect:
        raise Refusal(
            "The client left in the middle of its request.",
            status=499,
            code="client_left",
        ) from None
    if body.startswith(codecs.BOM_UTF8):
        raise Refusal(
            "The body begins with a byte order mark, which JSON does not have. "
            "Send it in UTF-8 without one."
        )
    return body


async def _read_up_to_limit(request: Request) -> bytes:
    # Chunk by chunk: a body that declares no length may be of any.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large_error()
    return bytes(body)


def _check_headers(headers: Headers) -> None:
    """Refuse what the headers alone show to be wrong, before any of the body is read."""
    _check_type(headers.getlist("content-type"))
    declared = headers.get("content-length", "0")
    # Python refuses to parse numbers of thousands of digits; twenty are over the limit already.
    if declared.isdecimal() and int(declared[:20]) > MAX_BODY_BYTES:
        raise _too_large_error()
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise Refusal(
            f"The body is compressed ({encoding[:40]!r}), which is not read here. "
            "Send it without Content-Encoding.",
            status=415,
        )


def _check_type(types: Sequence[str]) -> None:
    """Another page in somebody's browser may send any other type here without asking first."""
    if len(types) == 1:
        media_type = types[0].partition(";")[0]
        if _JSON.fullmatch(media_type.strip().lower()):
            return
    declared = repr(types[0][:60]) if types else "nothing"
    raise Refusal(
        f"The body is JSON, and its Content-Type says {declared}. "
        "Send `Content-Type: application/json` (curl: -H).",
        status=415,
        code="unsupported_media_type",
    )


def _too_large_error() -> Refusal:
    return Refusal(
        f"The body is over {MAX_BODY_BYTES} bytes. Send a shorter conversation.",
        status=413,
        code="request_too_large",
    )


async def _fit_into_context(
    engine: Engine, encoder: _PromptEncoder, chat: ChatRequest
) -> GenerationRequest:
    """Tokens of the prompt and room for the answer, before anything is allocated for it."""
    limit = chat.token_limit
    # Before the tokenizer runs: such a request fits with no prompt at all.
    if limit is not None and limit >= engine.context_tokens:
        fact = f"max_tokens {limit} leaves no room for a prompt"
        raise _context_error(engine, fact, "max_tokens")
    messages = [message.as_message() for message in chat.messages]
    prompt = await encoder.encode(messages, chat.model)
    room = engine.context_tokens - len(prompt)
    if room < 1:
        fact = f"the messages have {len(prompt)}"
        raise _context_error(engine, fact, "messages")
    if limit is not None and limit > room:
        fact = f"the messages have {len(prompt)} and max_tokens asks for {limit}"
        raise _context_error(engine, fact, "max_tokens")
    default = engine.specs[chat.model].default_max_tokens
    max_tokens = limit or min(default, room)
    return chat.to_generation(prompt, max_tokens)


def _context_error(engine: Engine, fact: str, param: str) -> Refusal:
    return Refusal(
        f"The context holds {engine.context_tokens} tokens; {fact}. "
        "Shorten the one or the other.",
        code="context_length_exceeded",
        param=param,
    )


def _model_card(engine: Engine, name: str, created: int) -> ModelCard:
    spec = engine.specs[name]
    return ModelCard(
        id=name,
        created=created,
        system_fingerprint=spec.fingerprint,
        spec=spec,
    )


def add_error_handlers(app: FastAPI) -> None:
    """Have every error answered in OpenAI's form, so that a client shows its text."""
    app.add_exception_handler(Refusal, _answer_error)
    app.add_exception_handler(404, _answer_unknown_route)
    app.add_exception_handler(405, _answer_unknown_route)
    app.add_exception_handler(Exception, _answer_error)


async def _answer_error(_: Request, error: Exception) -> Response:
    # Any other error may quote what a client must not read: its text stays in the log.
    refusal = error if isinstance(error, Refusal) else internal_error()
    return error_response(refusal)


async def _answer_unknown_route(request: Request, error: Exception) -> Response:
    status = 404
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        status = error.status_code
        # A 405 must say which methods are allowed.
        headers = dict(error.headers or {})
    path = request.scope["path"][:100]
    # Of the app that answers: an engine has fewer of them than the endpoint.
    served = ", ".join(route.path for route in request.app.routes)
    refusal = Refusal(
        f"{request.method} {path} is not served here ({status}). There are {served}.",
        status=status,
    )
    return error_response(refusal, headers)
