"""What clients see: OpenAI's HTTP interface in front of whatever is released."""

import time
from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import Response

from serving.app import READ, add_document, add_error_handlers, create_bare_app
from serving.endpoint.additions import Additions
from serving.endpoint.answer_cache import AnswerCache
from serving.endpoint.call import Call
from serving.endpoint.copies import Copier
from serving.endpoint.feedback import GivenAnswers, client_of
from serving.endpoint.forward import ForwardedResponse
from serving.endpoint.keyed_app import TENANT
from serving.endpoint.lanes import Lanes, not_released_error, unavailable_error
from serving.endpoint.limits import Limits
from serving.endpoint.readiness import Readiness, Standing
from serving.feedback_schema import parse_rating
from serving.observing.metrics_route import add_metrics
from serving.observing.watch import WatchedApp
from serving.openai_schema.models import ModelCard, ModelList, ReadyReport
from serving.paths import CHAT, COMPLETIONS
from serving.request_body import check_name, read_body


def create_app(
    lanes: Lanes,
    limits: Limits,
    additions: Additions | None = None,
    cache_bytes: int = 0,
    standing: Callable[[], Standing] = Standing,
) -> FastAPI:
    """The endpoint's interface over a table of lanes. Its routes raise `Refusal`."""
    app = create_bare_app()
    around = additions or Additions()
    app.add_middleware(WatchedApp, observer=around.observer)
    copier = Copier()
    given_answers = GivenAnswers()
    cache = AnswerCache(cache_bytes)
    readiness = Readiness(lanes, standing)
    add_error_handlers(app)

    def forward(call: Call, lanes: Lanes) -> Response:
        return ForwardedResponse(
            call,
            lanes,
            copier,
            given_answers,
            cache,
        )

    @app.api_route("/healthz", methods=READ)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.api_route("/readyz", methods=READ)
    async def readyz() -> ReadyReport:
        return readiness.report()

    _add_models(app, lanes)

    @app.post(CHAT)
    @app.post(COMPLETIONS)
    async def answer(request: Request) -> Response:
        body = await around.admit(request, await read_body(request))
        path = request.scope["path"]
        # Without keys in front of the routes all are one tenant.
        tenant = request.scope.get(TENANT, "")
        call = Call.read(body, limits.seconds_to_come_back, path, tenant)
        check_name(call.model)
        return around.around(request, call, lanes, forward)

    _add_feedback(app, given_answers, around)
    if around.shows_metrics:
        add_metrics(app, around.observer.metrics)
    add_document(app)
    return app


def _add_models(app: FastAPI, lanes: Lanes) -> None:
    started = int(time.time())

    @app.api_route("/v1/models", methods=READ)
    async def models() -> ModelList:
        names = lanes.ready_targets()
        cards = [_model_card(lanes, name, started) for name in names]
        return ModelList(data=tuple(cards))

    @app.api_route("/v1/models/{name}", methods=READ)
    async def model(name: str) -> ModelCard:
        check_name(name)
        if name not in lanes.table:
            raise not_released_error(name)
        return _model_card(lanes, name, started)


def _add_feedback(app: FastAPI, given_answers: GivenAnswers, around: Additions) -> None:
    @app.post("/v1/feedback")
    async def feedback(request: Request) -> dict[str, str | int]:
        body = await read_body(request)
        takes_texts = around.takes_texts_of_feedback
        rating = parse_rating(body, takes_texts=takes_texts)
        address = None if request.client is None else request.client.host
        origin = given_answers.rate(rating, client_of(address))
        around.observer.rate(rating, origin)
        return {
            "object": "feedback",
            "id": rating.id,
            "score": rating.score,
        }


def _model_card(lanes: Lanes, name: str, created: int) -> ModelCard:
    target = lanes.ready_targets().get(name)
    # It may have ended since the list was read.
    if target is None:
        raise unavailable_error(name)
    return ModelCard(
        id=name,
        created=created,
        system_fingerprint=target.spec.fingerprint,
        spec=target.spec,
    )
