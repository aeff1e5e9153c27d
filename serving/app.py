"""The endpoint: OpenAI's HTTP interface in front of one engine."""

import asyncio
import codecs
import contextlib
import re
import time
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from pipelines.values.dataset import Message
from serving.answer import (
    About,
    Answer,
    EventStream,
    error_response,
    event_chunks,
    unless_gone,
    whole_answer,
)
from serving.engines import Engine, Order
from serving.openai_schema import (
    MAX_BODY_BYTES,
    MODEL_NAME,
    ChatRequest,
    ModelCard,
    ModelList,
    parse_request,
)
from serving.refusal import Refusal, internal_error, not_ready

FINGERPRINT_HEADER = "x-assay-fingerprint"
READ = ["GET", "HEAD"]  # a load balancer asks with HEAD
_JSON = re.compile(r"application/([a-z0-9!#$&^_.-]+\+)?json")
_SECONDS_FOR_A_BODY = 20.0
_LONG_PROMPT = 32_768  # characters: up to here a tokenizer needs hundredths of a second


def create_app(engine: Engine) -> FastAPI:
    """The endpoint over a loaded engine."""
    app = bare_app()
    started = int(time.time())
    prompts = _Prompts(engine)
    answer_errors(app)

    @app.api_route("/healthz", methods=READ)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/readyz", methods=READ)
    async def readyz() -> dict[str, str]:
        if not engine.is_ready:
            raise not_ready()
        return {"status": "ready"}

    @app.api_route("/v1/models", methods=READ)
    async def models() -> ModelList:
        return ModelList(
            data=tuple(_card(engine, name, started) for name in engine.specs)
        )

    @app.api_route("/v1/models/{name}", methods=READ)
    async def model(name: str) -> ModelCard:
        _check_model(engine, name)
        return _card(engine, name, started)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await _chat(engine, prompts, request)

    return app


def bare_app() -> FastAPI:
    """An app without pages, so that nothing is fetched from elsewhere, and without redirects."""
    return FastAPI(
        title="Assay",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )


class _Prompts:
    """Tokens of conversations. Of long ones one at a time, so that the short ones always find a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()

    async def ids(self, messages: Sequence[Message]) -> list[int]:
        """As the engine's own, beside the event loop."""
        is_long = sum(len(message.content) for message in messages) > _LONG_PROMPT
        async with self._turn if is_long else contextlib.nullcontext():
            return await asyncio.to_thread(self._engine.prompt_ids, messages)


async def _chat(engine: Engine, prompts: _Prompts, request: Request) -> Response:
    chat = parse_request(await read_body(request))
    _check_model(engine, chat.model)
    header = {FINGERPRINT_HEADER: engine.specs[chat.model].fingerprint}
    try:
        order = await _order(engine, prompts, chat)
        answer = Answer(engine, order)
    except Refusal as refusal:
        return error_response(refusal, header)
    about = About.of(engine, order)
    if chat.stream:
        includes_usage = (
            chat.stream_options is not None
            and chat.stream_options.include_usage is True
        )
        return EventStream(
            answer, event_chunks(answer, about, includes_usage=includes_usage), header
        )
    return await unless_gone(request, answer, whole_answer(answer, about, header))


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
    """A model's name is looked up among those that are served, and never used as a path."""
    if not MODEL_NAME.fullmatch(name):
        raise Refusal(
            "model is the name of a served model, not a path. GET /v1/models lists them.",
            code="invalid_model",
            param="model",
        )


async def read_body(request: Request) -> bytes:
    """The request's body, which says that it is JSON; never more than the limit of it, and never waited for without end."""
    _check_type(request.headers.getlist("content-type"))
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared[:20]) > MAX_BODY_BYTES:
        raise _too_large()
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise Refusal(
            f"The body is compressed ({encoding[:40]!r}), which is not read here. Send it without Content-Encoding.",
            status=415,
        )
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS_FOR_A_BODY):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large()
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
            "The body begins with a byte order mark, which JSON does not have. Send it in UTF-8 without one."
        )
    return bytes(body)


def _check_type(types: Sequence[str]) -> None:
    """Another page in somebody's browser may send any other type here without asking first."""
    if len(types) == 1 and _JSON.fullmatch(types[0].partition(";")[0].strip().lower()):
        return
    given = repr(types[0][:60]) if types else "nothing"
    raise Refusal(
        f"The body is JSON, and its Content-Type says {given}. Send `Content-Type: application/json` (curl: -H).",
        status=415,
        code="unsupported_media_type",
    )


def _too_large() -> Refusal:
    return Refusal(
        f"The body is over {MAX_BODY_BYTES} bytes. Send a shorter conversation.",
        status=413,
        code="request_too_large",
    )


async def _order(engine: Engine, prompts: _Prompts, chat: ChatRequest) -> Order:
    """Tokens of the prompt and room for the answer, before anything is allocated for it."""
    limit = chat.token_limit
    if limit is not None and limit >= engine.context_tokens:
        raise _too_long(
            engine, f"max_tokens {limit} leaves no room for a prompt", "max_tokens"
        )
    prompt = await prompts.ids([message.as_message() for message in chat.messages])
    room = engine.context_tokens - len(prompt)
    if room < 1:
        raise _too_long(engine, f"the messages have {len(prompt)}", "messages")
    if limit is not None and limit > room:
        raise _too_long(
            engine,
            f"the messages have {len(prompt)} and max_tokens asks for {limit}",
            "max_tokens",
        )
    return chat.order(
        prompt, limit or min(engine.specs[chat.model].default_max_tokens, room)
    )


def _too_long(engine: Engine, fact: str, param: str) -> Refusal:
    return Refusal(
        f"The context holds {engine.context_tokens} tokens; {fact}. Shorten the one or the other.",
        code="context_length_exceeded",
        param=param,
    )


def _card(engine: Engine, name: str, created: int) -> ModelCard:
    spec = engine.specs[name]
    return ModelCard(
        id=name, created=created, system_fingerprint=spec.fingerprint, spec=spec
    )


def answer_errors(app: FastAPI) -> None:
    """Every error in OpenAI's form, so that a client shows its text."""

    async def refused(_: Request, error: Exception) -> Response:
        return error_response(error if isinstance(error, Refusal) else internal_error())

    async def no_such_route(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        fact = f"{request.method} {request.scope['path'][:100]} is not served here ({status})"
        allowed = (
            dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        )  # what a 405 must say
        refusal = Refusal(
            f"{fact}. There are /v1/models, /v1/chat/completions, /healthz, /readyz.",
            status=status,
        )
        return error_response(refusal, allowed)

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(404, no_such_route)
    app.add_exception_handler(405, no_such_route)
    app.add_exception_handler(Exception, refused)
