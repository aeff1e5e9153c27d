"""The parts of uvicorn that it promises to nobody, and that this project uses all the same.

`serving/connections.py` subclasses `uvicorn.protocols.http.h11_impl.H11Protocol`, and
`serving/listen.py` overrides `capture_signals` and `shutdown` of `uvicorn.Server`. After an update
that fails here: read what changed in uvicorn, adapt those two files, then move the pin in
pyproject.toml.
"""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

METHODS = {
    "__init__": ["self", "config", "server_state", "app_state", "_loop"],
    "connection_made": ["self", "transport"],
    "data_received": ["self", "data"],
    "eof_received": ["self"],
    "handle_events": ["self"],
    "on_response_complete": ["self"],
    "connection_lost": ["self", "exc"],
    "send_400_response": ["self", "msg"],
    "timeout_keep_alive_handler": ["self"],
}
ATTRIBUTES = (
    "conn",
    "connections",
    "cycle",
    "loop",
    "scope",
    "timeout_keep_alive",
    "transport",
)
CYCLE_ATTRIBUTES = (
    "disconnected",
    "message_event",
    "more_body",
    "response_complete",
    "response_started",
)
SERVER_METHODS = {
    "capture_signals": ["self"],
    "shutdown": ["self", "sockets"],
    "handle_exit": ["self", "sig", "frame"],
}


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def changed(owner: type, name: str) -> str:
    return (
        f"uvicorn {uvicorn.__version__} changed {owner.__qualname__}.{name}, which "
        "serving/connections.py or serving/listen.py relies on: adapt it, then move the pin "
        "in pyproject.toml."
    )


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_of_a_connection_that_are_overridden_or_called_are_as_they_were(
    name: str,
) -> None:
    method = getattr(H11Protocol, name, None)
    assert method is not None, changed(H11Protocol, name)
    assert parameters(method) == METHODS[name], changed(H11Protocol, name)


@pytest.mark.parametrize("name", SERVER_METHODS)
def test_the_methods_of_a_server_that_are_overridden_or_called_are_as_they_were(
    name: str,
) -> None:
    method = getattr(uvicorn.Server, name, None)
    assert method is not None, changed(uvicorn.Server, name)
    assert parameters(method) == SERVER_METHODS[name], changed(uvicorn.Server, name)


def test_a_connection_has_the_attributes_that_are_read_and_exchanged() -> None:
    async def make() -> H11Protocol:
        config = uvicorn.Config(FastAPI(), ws="none", lifespan="off")
        return H11Protocol(config, ServerState(), {})

    connection = asyncio.run(make())
    for name in ATTRIBUTES:
        assert hasattr(connection, name), changed(H11Protocol, name)


def test_an_answer_has_the_attributes_that_are_read_and_set() -> None:
    source = inspect.getsource(RequestResponseCycle.__init__)
    for name in CYCLE_ATTRIBUTES:
        assert f"self.{name}" in source, changed(RequestResponseCycle, name)
