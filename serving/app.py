"""The engine's HTTP interface: OpenAI's routes in front of one engine.

The endpoint's own app (`serving.endpoint.routes`) shares the names of routes and the errors.
"""

import time
from collections.abc import Awaitable
from functools import cache
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from pipelines.engines import Engine
from pipelines.engines.refusal import Refusal, internal_error, not_ready_error
from serving.answer import (
    EventStreamResponse,
    collect_answer,
    error_response,
    respond_unless_disconnected,
    stream_events,
)
from serving.answer_events import AnswerEvents
from serving.openai_schema.chat import parse_request
from serving.openai_schema.completions import parse_completion
from serving.openai_schema.generation import GenerationFields
from serving.openai_schema.models import ModelCard, ModelList
from serving.openapi import OPENAPI, openapi_document
from serving.paths import (
    CHAT,
    COMPLETIONS,
    FINGERPRINT_HEADER,
    PROMPT_TOKENS_HEADER,
)
from serving.plans import Plan, Planner, Turns
from serving.request_body import check_name, read_body

# A load balancer asks with HEAD.
READ = ["GET", "HEAD"]


def create_app(engine: Engine, turns: Turns | None = None) -> FastAPI:
    """The HTTP interface of a loaded engine. Its routes raise `Refusal`, which clients see.

    `turns` are those of its process, where that has several.
    """
    app = create_bare_app()
    started = int(time.time())
    if turns is None:
        turns = Turns.of(engine)
    planner = Planner(
        engine,
        turns,
    )
    add_error_handlers(app)
    add_health_routes(app, engine)

    @app.api_route("/v1/models", methods=READ)
    async def models() -> ModelList:
        return list_models(engine, started)

    @app.api_route("/v1/models/{name}", methods=READ)
    async def model(name: str) -> ModelCard:
        _check_model(engine, name)
        return _model_card(engine, name, started)

    @app.post(CHAT)
    async def chat_completions(request: Request) -> Response:
        body = await read_body(request)
        chat = parse_request(body)
        _check_model(engine, chat.model)
        planning = planner.plan_chat(chat)
        return await _answer(
            engine,
            request,
            chat,
            planning,
        )

    @app.post(COMPLETIONS)
    async def completions(request: Request) -> Response:
        body = await read_body(request)
        asked = parse_completion(body)
        _check_model(engine, asked.model)
        planning = planner.plan_completion(asked)
        return await _answer(
            engine,
            request,
            asked,
            planning,
        )

    add_document(app)
    return app


class Answering(Protocol):
    """What is ready at times, and not at others."""

    @property
    def is_ready(self) -> bool:
        """Whether requests are being answered."""


def add_health_routes(app: FastAPI, engine: Answering) -> None:
    """Have an app say that its process runs, and whether it answers."""

    @app.api_route("/healthz", methods=READ)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/readyz", methods=READ)
    async def readyz() -> dict[str, str]:
        if not engine.is_ready:
            raise not_ready_error()
        return {"status": "ready"}


def add_document(app: FastAPI) -> None:
    """Have an app say which of the documented routes it has."""

    # Not at the start: a release waits for that, and hardly anybody asks.
    @cache
    def document() -> dict[str, Any]:
        return openapi_document(paths_of(app))

    @app.api_route(OPENAPI, methods=READ)
    async def openapi() -> dict[str, Any]:
        return document()


def paths_of(app: FastAPI) -> list[str]:
    """The paths that an app answers."""
    # Mounted apps and middleware have no paths that a document could describe.
    return [route.path for route in app.routes if isinstance(route, APIRoute)]


def create_bare_app() -> FastAPI:
    """An app without pages, so that nothing is fetched from elsewhere, and without redirects."""
    return FastAPI(
        title="Assay",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )


async def _answer(
    engine: Engine, request: Request, asked: GenerationFields, planning: Awaitable[Plan]
) -> Response:
    # From here on every response names what answers or would have answered, errors included.
    spec = engine.specs[asked.model]
    header = {FINGERPRINT_HEADER: spec.fingerprint}
    try:
        plan = await planning
        header[PROMPT_TOKENS_HEADER] = str(plan.form.prompt_tokens)
        events = AnswerEvents(engine, plan.requests)
    except Refusal as refusal:
        return error_response(refusal, header)
    if asked.stream:
        chunks = stream_events(events, plan.form, includes_usage=asked.includes_usage)
        return EventStreamResponse(events, chunks, header)
    collecting = collect_answer(events, plan.form, header)
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


def list_models(engine: Engine, created: int) -> ModelList:
    """What an engine answers under which names, since `created` in Unix time."""
    cards = [_model_card(engine, name, created) for name in engine.specs]
    return ModelList(data=tuple(cards))


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
