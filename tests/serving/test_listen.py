"""The server behind the socket: when it may be told to end."""

import asyncio
import signal
import socket
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from serving.listen import create_server, open_socket, serve_on

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


async def connect_just_now(listener: socket.socket) -> socket.socket:
    """A client whose connection the loop has accepted, and whose protocol it has not begun."""
    client = socket.create_connection(listener.getsockname())
    client.setblocking(False)
    # The loop sees that somebody waits, and then accepts.
    for _ in range(2):
        await asyncio.sleep(0)
    return client


async def is_closed(client: socket.socket) -> bool:
    """Whether the other side has closed it, once it has."""
    with client:
        async with asyncio.timeout(60):
            try:
                return await asyncio.get_running_loop().sock_recv(client, 1) == b""
            except ConnectionResetError:
                return True


def test_a_connection_that_comes_while_a_server_ends_is_closed() -> None:
    async def case() -> bool:
        with open_socket("127.0.0.1", 0) as listener:
            server = create_server(FastAPI())
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            await server.startup([listener])
            client = await connect_just_now(listener)
            ending = asyncio.create_task(server.shutdown([listener]))
            try:
                return await is_closed(client)
            finally:
                await ending

    assert asyncio.run(case())
