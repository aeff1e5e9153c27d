"""The OpenAPI document: it holds what the routes do. `test_fuzzed.py` tries whether they do it."""

from collections.abc import Iterator
from typing import Any

import pytest

from serving.app import paths_of
from serving.endpoint.lanes import Lanes
from serving.endpoint.limits import Limits
from serving.endpoint.routes import create_app
from serving.openai_schema.chat import ChatRequest
from serving.openai_schema.completions import CompletionRequest
from serving.openapi import OPENAPI, openapi_document


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """That of the endpoint."""
    app = create_app(Lanes(), Limits())
    return openapi_document(paths_of(app))


def references(part: Any) -> Iterator[str]:
    """Every `$ref` in a part of a document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def test_it_lists_every_route_of_the_endpoint_but_itself(
    document: dict[str, Any],
) -> None:
    paths = paths_of(create_app(Lanes(), Limits()))
    assert {*document["paths"], OPENAPI} == set(paths)


def test_everything_that_it_refers_to_is_in_it(document: dict[str, Any]) -> None:
    named = {each.rpartition("/")[2] for each in references(document)}
    assert named <= document["components"]["schemas"].keys()


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest])
def test_a_request_has_the_fields_that_are_read(
    document: dict[str, Any], kind: type[ChatRequest]
) -> None:
    schema = document["components"]["schemas"][kind.__name__]
    assert schema["properties"].keys() == kind.model_fields.keys()
    assert schema["additionalProperties"] is False
