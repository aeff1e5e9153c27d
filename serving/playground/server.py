"""The server of the page: to which names and to whose pages it answers, and with which headers.

nicegui takes websockets from every page in a browser. A page of somebody else could so use the
playground of whoever looks at it: here only the playground's own page may.
"""

import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.engines.refusal import Refusal
from serving.answer import error_response
from serving.host_names import check_host, configured_names
from serving.listen import server_of

if TYPE_CHECKING:
    import uvicorn

# An open page never ends by itself: its websocket is closed then.
_SECONDS_TO_FINISH = 3
_MOST_CONNECTIONS = 512
# Bytes of one message of a browser: the longest question, with room for its frame.
_LONGEST_MESSAGE = 1_000_000
# Everything comes from this server; its widgets are drawn by code in the page.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class OwnPagesOnly:
    """An app that answers under its own names, to pages that it has sent itself."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        # nicegui looks through `app` for the server that it runs on.
        self.app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or websocket."""
        # The server's own start and end: nobody asks.
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            check_host(scope, self._names)
            check_origin(scope)
        except Refusal as refusal:
            await _refuse(refusal, scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send))


def check_origin(scope: Scope) -> None:
    """Return only if no other page than this server's own asks: a `Refusal` otherwise."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    # A browser always says it for a websocket; what is no browser has no page.
    if origin is None:
        return
    own = headers.get("host", "")
    # Without the scheme: a proxy with TLS before this server is another one to the browser.
    if origin.partition("://")[2].lower() != own.lower():
        raise Refusal(
            f"The page {origin[:100]!r} may not use this playground. Open its own page.",
            status=403,
            code="foreign_page",
        )


def create_page_server(app: ASGIApp) -> "uvicorn.Server":
    """A server of the page. `ServingError` where `ASSAY_HOST_NAMES` holds no host names."""
    import uvicorn

    config = uvicorn.Config(
        OwnPagesOnly(app, configured_names()),
        http="h11",
        loop="asyncio",
        ws="websockets-sansio",
        ws_max_size=_LONGEST_MESSAGE,
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        # A visitor's address is where the connection comes from, whatever is said in it.
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    return server_of(config)


def serve_page(
    app: ASGIApp, listener: socket.socket, announce: Callable[[], None]
) -> None:
    """Announce it and answer until SIGTERM or Ctrl-C."""
    server = create_page_server(app)
    # Before the announcement: whoever waited for it may end this process at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    announce()
    server.run(sockets=[listener])


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        # Before it is accepted, this is answered by 403.
        await send({"type": "websocket.close", "code": 1008})
        return
    response = error_response(refusal)
    await response(scope, receive, send)


def _with_headers(send: Send) -> Send:
    """The same `send`, which tells the browser to ask nobody else."""

    async def send_with_headers(message: Message) -> None:
        is_start = message["type"] == "http.response.start"
        if is_start:
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
        await send(message)

    return send_with_headers
