"""The door for the controller and the command line: on an address and with a token that only this home's owner can read."""

import hmac
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request
from fastapi.responses import Response

from registry.release.following import EndpointState
from serving.answer import error_response
from serving.app import bare_app
from serving.refusal import Refusal


def create_admin_app(
    token: str, look: Callable[[], Awaitable[None]], state: Callable[[], EndpointState]
) -> FastAPI:
    """`POST /doorbell` reads the ledger now and then gives the state; `GET /state` gives it as it is."""
    app = bare_app()

    @app.post("/doorbell")
    async def doorbell(request: Request) -> Response:
        return await answer(request, look)

    @app.get("/state")
    async def current_state(request: Request) -> Response:
        return await answer(request, _nothing)

    async def answer(
        request: Request, before: Callable[[], Awaitable[None]]
    ) -> Response:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return error_response(
                Refusal(
                    "This door needs the token of endpoint/admin.json.",
                    status=401,
                    code="unauthorized",
                )
            )
        await before()
        return Response(state().model_dump_json(), media_type="application/json")

    return app


async def _nothing() -> None:
    """No look at the ledger."""
