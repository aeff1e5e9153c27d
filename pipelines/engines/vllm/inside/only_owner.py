"""Runs inside vLLM's server: without the token no route answers anything.

vLLM's own `--api-key` leaves many routes open, `/invocations` and `/tokenize` among them.
"""

import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

TOKEN = "ASSAY_SERVER_TOKEN"  # noqa: S105 - its name
"""The environment variable with the token; this account alone may read it."""

_Message = dict[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


class OnlyOwner:
    """An ASGI app before vLLM's own."""

    def __init__(self, app: _App) -> None:
        self._app = app
        self._expected = f"Bearer {os.environ[TOKEN]}".encode()

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] == "lifespan" or self._is_owner(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "websocket.close"})

    def _is_owner(self, scope: _Message) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        # In constant time, so that how long it takes says nothing about the token.
        return hmac.compare_digest(given, self._expected)
