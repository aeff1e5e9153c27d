"""One HTTP exchange with an engine on this machine, which knows its endpoint by a token.

Every exchange has a connection of its own. On loopback that costs a tenth of a millisecond, and no request is ever sent into a connection
that the other side was about to close.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import h11

from core.errors import ServingError
from serving.owner import OWNER_HEADER

HOST = "127.0.0.1"
_SECONDS_TO_CONNECT = 5.0
_SECONDS_OF_SILENCE = 600.0
_AT_ONCE = 65_536
_RESET = struct.pack("ii", 1, 0)  # linger for 0 s


class EngineLost(ServingError):
    """The engine process ended, hung or cut the connection before its answer was whole."""


@dataclass(frozen=True)
class Address:
    """How an engine is asked: its port, and the token without which it answers nothing."""

    port: int
    token: str = field(repr=False)


@dataclass(frozen=True)
class Asked:
    """What is sent to an engine."""

    method: str
    path: str
    body: bytes = b""


class Reply:
    """What an engine answers: status and headers at once, the body as it comes."""

    def __init__(self, reader: asyncio.StreamReader, wire: h11.Connection) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._reader = reader
        self._wire = wire

    async def begin(self) -> None:
        """Wait for status and headers."""
        event = await self._event()
        if not isinstance(event, h11.Response):
            raise EngineLost(
                f"The engine answered {type(event).__name__} where its headers were due."
            )
        self.status = event.status_code
        self.headers = dict(event.headers)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body, in the pieces in which it arrives; `EngineLost` where it is cut off."""
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def whole(self) -> bytes:
        """The body."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def _event(self) -> h11.Event:
        try:
            while True:
                event = self._wire.next_event()
                if event is h11.NEED_DATA:
                    self._wire.receive_data(await self._data())
                elif isinstance(event, h11.Event) and not isinstance(
                    event, h11.InformationalResponse | h11.ConnectionClosed
                ):
                    return event
                else:
                    raise EngineLost(
                        "The engine closed the connection in the middle of its answer."
                    )
        except h11.RemoteProtocolError as error:
            raise EngineLost(f"The engine cut its answer off ({error}).") from error

    async def _data(self) -> bytes:
        try:
            async with asyncio.timeout(_SECONDS_OF_SILENCE):
                return await self._reader.read(_AT_ONCE)
        except (OSError, TimeoutError) as error:
            raise EngineLost(
                f"The connection to the engine broke ({type(error).__name__})."
            ) from error


@asynccontextmanager
async def exchange(engine: Address, asked: Asked) -> AsyncIterator[Reply]:
    """Send, and give the reply once its headers are there. Leaving the context early cancels what the engine is making."""
    wire = h11.Connection(h11.CLIENT)
    try:
        async with asyncio.timeout(_SECONDS_TO_CONNECT):
            reader, writer = await asyncio.open_connection(HOST, engine.port)
    except (OSError, TimeoutError) as error:
        raise EngineLost(
            f"The engine on port {engine.port} takes no connection ({type(error).__name__})."
        ) from error
    try:
        writer.write(_request(wire, asked, engine.token))
        reply = Reply(reader, wire)
        await reply.begin()
        yield reply
    finally:
        _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the engine knows at once: after an ordinary end it would take this side for one that still reads."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _RESET
        )
    writer.transport.abort()


def _request(wire: h11.Connection, asked: Asked, token: str) -> bytes:
    headers = [
        ("host", HOST),
        ("connection", "close"),
        ("authorization", f"Bearer {token}"),
        (OWNER_HEADER, str(os.getpid())),
        ("content-type", "application/json"),
        ("content-length", str(len(asked.body))),
    ]
    request = (
        wire.send(h11.Request(method=asked.method, target=asked.path, headers=headers))
        or b""
    )
    body = wire.send(h11.Data(data=asked.body)) or b""
    return request + body + (wire.send(h11.EndOfMessage()) or b"")
