"""The OpenAPI document: it holds what the routes do, and a fuzzer finds nothing else."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.app import paths_of
from serving.endpoint.lanes import Lanes
from serving.endpoint.limits import Limits
from serving.endpoint.routes import create_app
from serving.engines import Engine
from serving.openai_schema.chat import ChatRequest
from serving.openai_schema.completions import CompletionRequest
from serving.openapi import OPENAPI, openapi_document
from tests.support.running_engine import running
from tests.support.waiting import SECONDS_AT_MOST

# Beside our own environment: its plugin for pytest would be loaded by every test.
FUZZER = "schemathesis>=4.32,<5"


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


@pytest.mark.slow
def test_a_fuzzer_finds_no_error_of_ours_and_no_status_that_is_not_documented(
    engine: Engine, tmp_path: Path
) -> None:
    """`st run` over all routes of an engine: `make test-slow` fetches it from the index."""
    environment = tmp_path / "environment"
    uv = Path(sys.executable).with_name("uv")
    python = environment / "bin" / "python"
    install = [str(uv), "pip", "install", "--quiet", "--python", str(python), FUZZER]
    for step in ([str(uv), "venv", "--quiet", str(environment)], install):
        subprocess.run(step, check=True, timeout=600)
    checks = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
    with running(engine) as endpoint:
        run = subprocess.run(
            [
                str(environment / "bin" / "st"),
                "run",
                endpoint.url + OPENAPI,
                *("--checks", ",".join(checks)),
                *("--max-examples", "50"),
                *("--seed", "1"),
                *("--request-timeout", str(SECONDS_AT_MOST)),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=1500,
            check=False,
        )
    assert run.returncode == 0, run.stdout[-8000:]
