"""What clients see: OpenAI's HTTP interface in front of whatever is released."""

import time

from fastapi import FastAPI, Request
from fastapi.responses import Response

from serving.app import READ, answer_errors, bare_app, check_name, read_body
from serving.endpoint.forward import Forwarded, Question, model_named
from serving.endpoint.lanes import Lanes, away, not_released
from serving.endpoint.limits import Limits
from serving.endpoint.probe import CHAT
from serving.openai_schema import ModelCard, ModelList
from serving.refusal import Refusal


def create_app(lanes: Lanes, limits: Limits) -> FastAPI:
    """The endpoint over a table of lanes."""
    app = bare_app()
    started = int(time.time())
    answer_errors(app)

    @app.api_route("/healthz", methods=READ)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/readyz", methods=READ)
    async def readyz() -> dict[str, str]:
        if not lanes.ready():
            raise _nothing_answers(lanes)
        return {"status": "ready"}

    @app.api_route("/v1/models", methods=READ)
    async def models() -> ModelList:
        return ModelList(
            data=tuple(_card(lanes, name, started) for name in lanes.ready())
        )

    @app.api_route("/v1/models/{name}", methods=READ)
    async def model(name: str) -> ModelCard:
        check_name(name)
        if name not in lanes.table:
            raise not_released(name)
        return _card(lanes, name, started)

    @app.post(CHAT)
    async def chat_completions(request: Request) -> Response:
        body = await read_body(request)
        name = model_named(body)
        check_name(name)
        return Forwarded(Question(name, body, limits.to_come_back), lanes)

    return app


def _card(lanes: Lanes, name: str, created: int) -> ModelCard:
    target = lanes.ready().get(name)
    if target is None:
        raise away(name)
    return ModelCard(
        id=name,
        created=created,
        system_fingerprint=target.spec.fingerprint,
        spec=target.spec,
    )


def _nothing_answers(lanes: Lanes) -> Refusal:
    names = ", ".join(lanes.table)
    fact = (
        f"No engine of {names} answers yet. `assay status` says why."
        if names
        else "Nothing is released yet. `assay promote` releases a version."
    )
    return Refusal(fact, status=503, kind="server_error", code="not_ready")
