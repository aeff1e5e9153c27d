"""Clients that are slow or vanish, as a process: `python -m tests.support.slow_clients URL KIND`.

They go on until the process is ended, and start anew where the endpoint closes their connection.
Only this machine is ever called.
"""

import asyncio
import json
import socket
import sys
from contextlib import suppress

from tests.support.endpoint_system import MODEL, QUESTION

KINDS = ("heads", "bodies", "readers", "vanishing")
_HOST = "127.0.0.1"
_AT_ONCE = {"heads": 200, "bodies": 200, "readers": 12, "vanishing": 10}
"""Those that do not read are answered first, which is work like any other: few of them."""
# Vanishing ones a second: each has an engine read a prompt for nobody.
_VANISHING = 20
_BODY = json.dumps(
    {"model": MODEL, "messages": QUESTION, "max_tokens": 400, "stream": True}
).encode()
_HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
)


async def trickle(writer: asyncio.StreamWriter, first: bytes, rest: bytes) -> None:
    """Send the beginning at once, and then a byte now and then."""
    writer.write(first)
    for place in range(len(rest)):
        writer.write(rest[place : place + 1])
        await writer.drain()
        await asyncio.sleep(1)


async def read_slowly(reader: asyncio.StreamReader) -> None:
    """A byte now and then, to the end."""
    byte = b" "
    while byte:
        byte = await reader.read(1)
        await asyncio.sleep(1)


async def one(kind: str, port: int) -> None:
    """One client, from its connection to its end."""
    connection = socket.create_connection((_HOST, port))
    # A small window, so that what it does not read soon waits at the server.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
    try:
        if kind == "heads":
            await trickle(writer, _HEAD[:20], _HEAD[20:])
        elif kind == "bodies":
            await trickle(writer, _HEAD + _BODY[:10], _BODY[10:])
        elif kind == "readers":
            writer.write(_HEAD + _BODY)
            await read_slowly(reader)
        else:
            writer.write(_HEAD + _BODY)
            await writer.drain()
            await asyncio.sleep(0.02)
    finally:
        writer.transport.abort()


async def again_and_again(kind: str, port: int, pause: float) -> None:
    while True:
        with suppress(OSError, EOFError):
            await one(kind, port)
        await asyncio.sleep(pause)


async def main(port: int, kind: str) -> None:
    count = _AT_ONCE[kind]
    pause = count / _VANISHING if kind == "vanishing" else 0.1
    await asyncio.gather(*(again_and_again(kind, port, pause) for _ in range(count)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1].rpartition(":")[2]), sys.argv[2]))
