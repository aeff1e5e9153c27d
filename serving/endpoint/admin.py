"""The HTTP interface for the controller and the command line.

Its address and its token are in a file that only the home's owner can read.
"""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.responses import Response

from pipelines.engines.refusal import Refusal
from registry.release.following import EndpointState
from serving.answer import error_response
from serving.app import create_bare_app


def create_admin_app(
    token: str, look: Callable[[], Awaitable[None]], state: Callable[[], EndpointState]
) -> FastAPI:
    """`POST /doorbell` reads the ledger, then gives the state; `GET /state` gives it as it is."""
    app = create_bare_app()

    @app.post("/doorbell")
    async def doorbell(request: Request) -> Response:
        if not _has_token(request, token):
            return error_response(_unauthorized_error())
        await look()
        return _state_response(state())

    @app.get("/state")
    async def current_state(request: Request) -> Response:
        if not _has_token(request, token):
            return error_response(_unauthorized_error())
        return _state_response(state())

    return app


def _has_token(request: Request, token: str) -> bool:
    authorization = request.headers.get("authorization", "").encode()
    expected = f"Bearer {token}".encode()
    # In constant time, so that how long it takes says nothing about the token.
    return hmac.compare_digest(authorization, expected)


def _state_response(state: EndpointState) -> Response:
    return Response(state.model_dump_json(), media_type="application/json")


def _unauthorized_error() -> Refusal:
    return Refusal(
        "This door needs the token of endpoint/admin.json.",
        status=401,
        code="unauthorized",
    )
