"""The controller's doorbell: a genuine ring begins the next round at once.

It listens on this machine alone. A ring says nothing but "look": what is to be done is in the
ledger, so that forged, lost, repeated or late rings change no result.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from core.log import say
from core.loopback import LOOPBACK
from core.settings import Settings
from pipelines.engines.refusal import Refusal
from registry.release.doorbell import (
    bell_secret,
    is_genuine,
    publish_address,
    withdraw_address,
)
from serving.answer import error_response
from serving.app import create_bare_app
from serving.listen import create_server, format_url, open_socket

_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_TO_END = 5.0
_NO_CONTENT = 204
_LONGEST_BODY = 65_536
_SECONDS_FOR_A_BODY = 10.0


class Bell:
    """Counts rings; each thread that waits hears every ring, and many rings at once are one."""

    def __init__(self) -> None:
        self.rings = 0

    def ring(self) -> None:
        """Have everybody who waits go on."""
        self.rings += 1

    def wait(self, heard: int, stop: threading.Event, seconds: float) -> None:
        """Return once there were other rings than those heard, once it is over, or in time."""
        deadline = time.monotonic() + seconds
        while self.rings == heard and time.monotonic() < deadline:
            # Polled: a signal handler may set the event while this thread waits.
            if stop.wait(_SECONDS_BETWEEN_LOOKS):
                return


def create_doorbell_app(key: str, ring: Callable[[], None]) -> FastAPI:
    """`POST /doorbell` rings where the delivery is genuine, and is 401 where it is not."""
    app = create_bare_app()

    @app.post("/doorbell")
    async def doorbell(request: Request) -> Response:
        body = await _read(request)
        # One answer for all of them: who rings without the secret learns nothing.
        if body is None or not is_genuine(key, request.headers, body, time.time()):
            error = _unauthorized_error()
            return error_response(error)
        ring()
        return Response(status_code=_NO_CONTENT)

    return app


async def _read(request: Request) -> bytes | None:
    """The body; None where it is longer or slower than any ring."""
    body = b""
    try:
        async with asyncio.timeout(_SECONDS_FOR_A_BODY):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _LONGEST_BODY:
                    return None
    except TimeoutError:
        return None
    return body


@contextmanager
def listening(home: Path, bell: Bell) -> Iterator[None]:
    """Have the bell rung by whoever knows this home's secret, for as long as the context lasts."""
    with open_socket(LOOPBACK, Settings().doorbell_port) as listener:
        app = create_doorbell_app(bell_secret(home), bell.ring)
        # The same strict reading of HTTP as every other server here has.
        server = create_server(app)
        thread = threading.Thread(
            target=server.run,
            kwargs={"sockets": [listener]},
            name="doorbell",
            daemon=True,
        )
        thread.start()
        url = format_url(listener)
        publish_address(home, url)
        say(f"The doorbell is at {url}/doorbell.", sys.stdout)
        try:
            yield
        finally:
            withdraw_address(home)
            server.should_exit = True
            thread.join(_SECONDS_TO_END)


def _unauthorized_error() -> Refusal:
    return Refusal(
        "This doorbell needs a signature with the secret of keys/doorbell.",
        status=401,
        code="unauthorized",
    )
