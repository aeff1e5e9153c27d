"""The door for the controller and the command line: on an address and with a token that only this home's owner can read."""

import hmac
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import Response

from pipelines.value import Value
from registry.following import EndpointState
from registry.private_file import write_private
from serving.answer import error_response
from serving.endpoint.memory import FOLDER
from serving.refusal import Refusal


class Door(Value):
    """How the running endpoint of a home is reached, and where it answers clients."""

    url: str
    token: str
    pid: int
    serves_at: str

    @classmethod
    def new(cls, url: str, serves_at: str) -> "Door":
        """With a token that nobody knows yet."""
        return cls(url=url, token=secrets.token_urlsafe(32), pid=os.getpid(), serves_at=serves_at)


def door_file(home: Path) -> Path:
    """There for as long as the endpoint runs; mode 0600."""
    return home / FOLDER / "admin.json"


def open_door(home: Path, door: Door) -> None:
    """Tell the owner of the home."""
    write_private(door_file(home), door.model_dump_json())


def close_door(home: Path) -> None:
    """The endpoint ends."""
    door_file(home).unlink(missing_ok=True)


def create_admin_app(token: str, look: Callable[[], Awaitable[None]], state: Callable[[], EndpointState]) -> FastAPI:
    """`POST /doorbell` reads the ledger now and then gives the state; `GET /state` gives it as it is."""
    app = FastAPI(title="Assay", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/doorbell")
    async def doorbell(request: Request) -> Response:
        return await answer(request, look)

    @app.get("/state")
    async def current_state(request: Request) -> Response:
        return await answer(request, _nothing)

    async def answer(request: Request, before: Callable[[], Awaitable[None]]) -> Response:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return error_response(Refusal("This door needs the token of endpoint/admin.json.", status=401, code="unauthorized"))
        await before()
        return Response(state().model_dump_json(), media_type="application/json")

    return app


async def _nothing() -> None:
    """No look at the ledger."""
