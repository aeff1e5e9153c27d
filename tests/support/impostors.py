"""Servers on loopback that are not what an address promises: each is wrong in its own way."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.support.waiting import SECONDS_AT_MOST


class Reply(NamedTuple):
    """What is said to a request."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    location: str = ""


class Request(NamedTuple):
    """What was asked."""

    method: str
    path: str
    body: bytes
    authorization: str


def reply(status: int, document: Any) -> Reply:
    """A reply of JSON."""
    return Reply(status, json.dumps(document).encode())


@contextmanager
def answering(
    answer: Callable[[Request], Reply],
) -> Iterator[tuple[str, list[Request]]]:
    """A server that answers so; its address, and what it was asked."""
    asked: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            login = self.headers.get("Authorization", "")
            request = Request(self.command, self.path, self.rfile.read(length), login)
            asked.append(request)
            said = answer(request)
            self.send_response(said.status)
            self.send_header("Content-Length", str(len(said.body)))
            self.send_header("Content-Type", said.kind)
            if said.location:
                self.send_header("Location", said.location)
            self.end_headers()
            self.wfile.write(said.body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def silent(drop: bytes = b"") -> Iterator[int]:
    """A port that takes connections and says nothing, or one byte again and again."""
    is_over = threading.Event()
    connections: list[socket.socket] = []

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=drip, args=(connection,), daemon=True).start()

    def drip(connection: socket.socket) -> None:
        with suppress(OSError):
            while drop and not is_over.wait(0.2):
                connection.sendall(drop)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            is_over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS_AT_MOST)
            for connection in connections:
                connection.close()
