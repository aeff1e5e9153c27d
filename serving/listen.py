"""The socket that a server listens on, and the server behind it."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from core.errors import ServingError

if TYPE_CHECKING:
    import uvicorn

# For running answers, once the server is to end.
_SECONDS_TO_FINISH = 30
# For a request's head, from the opening of its connection or the end of the last answer on it.
_SECONDS_FOR_A_HEAD = 10
# asyncio accepts so many connections at once before it looks at any of them: few enough for this
# process to have files for them.
_BACKLOG = 128
# Of the event loop, from a connection that is accepted to a protocol, or a task, that has it.
_ROUNDS_TO_BEGIN = 4


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a server that speaks TLS."""

    certificate: Path
    key: Path


def open_socket(host: str, port: int) -> socket.socket:
    """Listen at once, so that a taken port is found before any weights are loaded.

    Port 0 takes a free one. `ServingError` where the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    # A server that is started again at once finds its old connections still in TIME_WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ServingError(_describe_failure(host, port, error)) from error
    return listener


def format_url(listener: socket.socket, scheme: str = "http") -> str:
    """The address of a socket that listens, as a client writes it: `http://127.0.0.1:8080`."""
    host, port = listener.getsockname()[:2]
    # An IPv6 address has colons of its own.
    if ":" in host:
        return f"{scheme}://[{host}]:{port}"
    return f"{scheme}://{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Whether only this machine reaches a socket that listens."""
    host = str(listener.getsockname()[0])
    return ip_address(host.partition("%")[0]).is_loopback


def create_server(app: FastAPI, tls: TlsFiles | None = None) -> "uvicorn.Server":
    """A server that answers until its `should_exit` is set, and then lets running answers finish.

    `ServingError` where `ASSAY_HOST_NAMES` holds something else than host names.
    """
    import uvicorn

    from serving.connections import GuardedApp, TimedConnection
    from serving.host_names import configured_names

    config = uvicorn.Config(
        GuardedApp(app, configured_names()),
        http=TimedConnection,
        # Named: with uvloop installed uvicorn would take that, whose connections close otherwise.
        loop="asyncio",
        # There are no websockets, and one would get around the time for a request.
        ws="none",
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        backlog=_BACKLOG,
        timeout_keep_alive=_SECONDS_FOR_A_HEAD,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
    )
    return server_of(config)


def server_of(config: "uvicorn.Config") -> "uvicorn.Server":
    """A server that leaves signals alone, and no connection of its last moment open."""
    import uvicorn

    class SignalFreeServer(uvicorn.Server):
        # Signals are this process's: it may run two servers, and `serve_on` sets its own handlers.
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for server in self.servers:
                await stop_accepting(server)
            await super().shutdown(sockets)

    return SignalFreeServer(config)


async def stop_accepting(server: asyncio.Server) -> None:
    """Take no more connections, and let those begin that were taken just now.

    asyncio forgets a connection that is not begun when its server is closed: nobody answers its
    client, and nobody closes it (https://github.com/python/cpython/issues/109564).
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    for _ in range(_ROUNDS_TO_BEGIN):
        await asyncio.sleep(0)


def serve_on(
    app: FastAPI, listener: socket.socket, announce: Callable[[], None]
) -> None:
    """Announce it and answer until SIGTERM or Ctrl-C, then let running answers finish."""
    server = create_server(app)
    # Before the announcement: whoever waited for it may end this process at once, and uvicorn
    # would begin to handle signals only afterwards.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    announce()
    server.run(sockets=[listener])


def _describe_failure(host: str, port: int, error: OSError | OverflowError) -> str:
    # OverflowError, which a port over 65535 is, has no errno.
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken. Stop what listens there, or give another with "
            "--port; --port 0 takes a free one."
        )
    return (
        f"Cannot listen on {host} port {port} ({error}). Give an address of this machine with "
        "--host, and a port from 0 to 65535."
    )
