"""The socket that the endpoint listens on, and the server behind it."""

import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fastapi import FastAPI

from core.errors import ServingError

if TYPE_CHECKING:
    import uvicorn

_SECONDS_TO_FINISH = 30
_SECONDS_FOR_A_HEAD = 10
_BACKLOG = 128


def open_socket(host: str, port: int) -> socket.socket:
    """Listen at once, so that a port that is taken is found before any weights are loaded. Port 0 takes a free one."""
    listener = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM
    )
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ServingError(_cannot_listen(host, port, error)) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address of a socket that listens, as a client writes it."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def server_of(app: FastAPI) -> "uvicorn.Server":
    """A server that answers until its `should_exit` is set, and then lets running answers finish."""
    import uvicorn

    from serving.connections import Front, TimedConnection
    from serving.host_names import configured_names

    class Told(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Told(
        uvicorn.Config(
            Front(app, configured_names()),
            http=TimedConnection,
            ws="none",  # there are none, and one would get around the time for a request
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            backlog=_BACKLOG,  # asyncio takes so many at once before any is looked at: few enough for there to be files for them
            timeout_keep_alive=_SECONDS_FOR_A_HEAD,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
    )


def serve_on(
    app: FastAPI, listener: socket.socket, announce: Callable[[], None]
) -> None:
    """Announce it and answer until SIGTERM or Ctrl-C, then let running answers finish."""
    server = server_of(app)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Before the announcement: whoever waited for it may end this at once. uvicorn would begin to listen to signals only afterwards.
        signal.signal(number, server.handle_exit)
    announce()
    server.run(sockets=[listener])


def _cannot_listen(host: str, port: int, error: OSError | OverflowError) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken. Stop what listens there, or give another with --port; --port 0 takes a free one."
    return f"Cannot listen on {host} port {port} ({error}). Give an address of this machine with --host, and a port from 0 to 65535."
