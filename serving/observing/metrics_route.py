"""`GET /metrics`: on the endpoint's own port, or at an address of its own."""

import asyncio
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import Response

from core.errors import ServingError
from core.log import say
from serving.app import READ, add_error_handlers, create_bare_app
from serving.listen import create_server, format_url, open_socket
from serving.observing.metrics import CONTENT_TYPE, Metrics
from serving.whole_number import parse_whole

if TYPE_CHECKING:
    import socket

OFF = "off"
_LAST_PORT = 65_535


def add_metrics(app: FastAPI, metrics: Metrics) -> None:
    """Have an app answer `/metrics`."""

    @app.api_route("/metrics", methods=READ)
    async def exposition() -> Response:
        # Here: engines come and go in this loop, and a thread might meet half a change.
        metrics.look()
        # In a thread: it asks the system about every engine's process.
        content = await asyncio.to_thread(metrics.expose)
        return Response(content, media_type=CONTENT_TYPE)


class MetricsServer:
    """Metrics at an address of their own; nothing where the setting names none."""

    def __init__(self, metrics: Metrics, address: str) -> None:
        self._listener: socket.socket | None = None
        if address in ("", OFF):
            return
        self._listener = open_socket(*_parse(address))
        app = create_bare_app()
        add_error_handlers(app)
        add_metrics(app, metrics)
        self._server = create_server(app)
        say(f"Metrics are at {format_url(self._listener)}/metrics")

    async def serve(self) -> None:
        """Answer until `end` is called."""
        if self._listener is not None:
            await self._server.serve([self._listener])

    def end(self) -> None:
        """Take no more requests."""
        if self._listener is not None:
            self._server.should_exit = True


def _parse(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    number = parse_whole(port, _LAST_PORT)
    if not colon or not host or number is None:
        raise ServingError(
            f"ASSAY_METRICS_ADDRESS is {address[:100]!r}: give HOST:PORT, such as "
            "127.0.0.1:9464, or off."
        )
    return host, number
