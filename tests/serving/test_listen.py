"""The server behind the socket: when it may be told to end."""

import signal
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from serving.listen import open_socket, serve_on

TOLD_TO_END = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def _harmless() -> Iterator[None]:
    """A signal that nobody takes ends nothing, so that a server that lost it runs on."""
    before = {number: signal.signal(number, lambda *_: None) for number in TOLD_TO_END}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_harmless")
@pytest.mark.parametrize("number", TOLD_TO_END)
def test_a_server_that_is_told_to_end_as_soon_as_it_says_that_it_is_ready_ends(
    number: signal.Signals,
) -> None:
    with open_socket("127.0.0.1", 0) as listener:
        serve_on(FastAPI(), listener, lambda: signal.raise_signal(number))
        assert listener.fileno() == -1
