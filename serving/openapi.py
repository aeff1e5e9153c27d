"""The OpenAPI document of a server: every route with its fields, answers and statuses."""

from collections.abc import Collection, Iterable
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serving.feedback_schema import Rating
from serving.openai_schema.chat import ChatRequest
from serving.openai_schema.chat_answers import ChatCompletion
from serving.openai_schema.completion_answers import Completion
from serving.openai_schema.completions import CompletionRequest
from serving.openai_schema.fields import WireValue
from serving.openai_schema.models import ModelCard, ModelList, ReadyReport
from serving.paths import CHAT, COMPLETIONS

OPENAPI = "/openapi.json"
_REFERENCE = "#/components/schemas/{model}"
_STATUSES = {
    400: "the request is not served as it stands; the sentence says what to send",
    401: "the endpoint asks for an API key, and this is none that counts",
    404: "there is none of that name",
    408: "the body did not arrive in time",
    409: "the answer was rated already",
    413: "the body is too large",
    415: "the body is compressed, or its type is not JSON",
    421: "the server does not answer under that host name",
    429: "the API key has no request or no token left; Retry-After says until when",
    500: "the engine failed in the middle of this answer",
    503: "nothing answers at this moment; Retry-After says when to try again",
}
# Whatever a request asks.
_ANYWHERE = (400, 421, 503)
_WITH_KEY = (*_ANYWHERE, 401, 429)
_WITH_BODY = (*_WITH_KEY, 404, 408, 413, 415, 500)


class Health(WireValue):
    """Whether a process lives."""

    status: str


class FeedbackAnswer(WireValue):
    """What was rated."""

    object: str
    id: str
    score: int


class ErrorFacts(WireValue):
    """What is wrong, in a sentence for people, and in words for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(WireValue):
    """The body of every response that is no answer."""

    error: ErrorFacts = Field(description="what is wrong")


_REQUESTS: tuple[type[BaseModel], ...] = (ChatRequest, CompletionRequest, Rating)
_ANSWERS: tuple[type[BaseModel], ...] = (
    ChatCompletion,
    Completion,
    ErrorBody,
    FeedbackAnswer,
    Health,
    ModelCard,
    ModelList,
    ReadyReport,
)


def openapi_document(paths: Collection[str]) -> dict[str, Any]:
    """The document of a server that has those paths."""
    operations = _operations()
    return {
        "openapi": "3.1.0",
        "info": {"title": "Assay", "version": version("assay")},
        "paths": {path: operations[path] for path in paths if path in operations},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        # With a key, or, where none is asked for, without.
        "security": [{"key": []}, {}],
    }


def _operations() -> dict[str, dict[str, Any]]:
    name = {
        "name": "name",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }
    one = _reading("One model that answers", ModelCard, (*_WITH_KEY, 404))
    one["get"]["parameters"] = [name]
    return {
        "/healthz": _reading("Whether the process lives", Health, _ANYWHERE),
        "/readyz": _reading("Whether anything answers", ReadyReport, _ANYWHERE),
        "/v1/models": _reading("What answers", ModelList, _WITH_KEY),
        "/v1/models/{name}": one,
        CHAT: _writing("Answer a conversation", ChatRequest, ChatCompletion),
        COMPLETIONS: _writing("Go on with a text", CompletionRequest, Completion),
        "/v1/feedback": _writing("Rate an answer", Rating, FeedbackAnswer, (409,)),
        "/metrics": _telling("Counts and times for Prometheus", _WITH_KEY),
        "/": _leading(),
    }


def _reading(
    summary: str, answer: type[BaseModel], statuses: Iterable[int]
) -> dict[str, Any]:
    responses = _responses(answer, statuses)
    operation = {"summary": summary, "responses": responses}
    return {"get": operation}


def _telling(summary: str, statuses: Iterable[int]) -> dict[str, Any]:
    """A route that answers in plain text."""
    responses = _error_responses(statuses)
    text = {"text/plain": {"schema": {"type": "string"}}}
    responses["200"] = {"description": "the text", "content": text}
    operation = {"summary": summary, "responses": responses}
    return {"get": operation}


def _leading() -> dict[str, Any]:
    page = _telling("What a browser is shown", _ANYWHERE)
    # Only while a playground of this home runs.
    page["get"]["responses"]["307"] = {"description": "the playground is there"}
    return page


def _writing(
    summary: str,
    request: type[BaseModel],
    answer: type[BaseModel],
    more_statuses: tuple[int, ...] = (),
) -> dict[str, Any]:
    responses = _responses(answer, (*_WITH_BODY, *more_statuses))
    # OpenAPI cannot say that the type of an answer hangs on a field: both are listed.
    if "stream" in request.model_fields:
        stream = {"schema": {"type": "string"}}
        responses["200"]["content"]["text/event-stream"] = stream
    operation = {
        "summary": summary,
        "requestBody": {"required": True, "content": _json_of(request)},
        "responses": responses,
    }
    return {"post": operation}


def _responses(answer: type[BaseModel], statuses: Iterable[int]) -> dict[str, Any]:
    answered = {"description": "the answer", "content": _json_of(answer)}
    return {"200": answered, **_error_responses(statuses)}


def _error_responses(statuses: Iterable[int]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    # In order, so that the document is the same one at every start.
    for status in sorted(statuses):
        responses[str(status)] = {
            "description": _STATUSES[status],
            "content": _json_of(ErrorBody),
        }
    return responses


def _json_of(model: type[BaseModel]) -> dict[str, Any]:
    reference = _REFERENCE.format(model=model.__name__)
    return {"application/json": {"schema": {"$ref": reference}}}


def _schemas() -> dict[str, Any]:
    read: JsonSchemaMode = "validation"
    written: JsonSchemaMode = "serialization"
    # Two modes: an answer always has the fields that a request may leave out.
    kinds = [(model, read) for model in _REQUESTS]
    kinds += [(model, written) for model in _ANSWERS]
    _, document = models_json_schema(kinds, ref_template=_REFERENCE)
    schemas: dict[str, Any] = document["$defs"]
    return schemas
