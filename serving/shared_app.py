"""The HTTP interface of a process in which releases come and go.

    PUT     /releases/{package_sha256}      attach a release
    DELETE  /releases/{package_sha256}      cancel its answers, and give its memory back
    *       /releases/{package_sha256}/…    what `serving.app` answers, for that release

Only the endpoint that owns the process asks it (`serving.owner`).
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated
from weakref import WeakValueDictionary

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import Field, ValidationError
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from core.errors import AssayError, DamagedFile
from core.value import Value, first_problem
from pipelines.engines.refusal import Refusal
from pipelines.engines.shared.engine import ReleaseEngine, gone_error
from serving.answer import error_response
from serving.app import (
    add_error_handlers,
    add_health_routes,
    create_app,
    create_bare_app,
    list_models,
)
from serving.load_shared import ReleaseOrder, SharedBase
from serving.openai_schema.models import ModelList
from serving.paths import RELEASES
from serving.plans import Turns
from serving.request_body import read_body


class AttachRequest(Value):
    """The body of `PUT /releases/{package_sha256}`."""

    package: str
    model_name: str
    # None: as it was scored.
    default_max_tokens: Annotated[int, Field(ge=1)] | None = None


class _Attached:
    """A release that answers."""

    def __init__(self, engine: ReleaseEngine, turns: Turns) -> None:
        self.engine = engine
        self.app = create_app(engine, turns)
        self.models = list_models(engine, int(time.time()))


class SharedReleases:
    """The releases of a process by the digest of their packages, and the way to each."""

    def __init__(self, shared: SharedBase) -> None:
        self._shared = shared
        self._attached: dict[str, _Attached] = {}
        # Held by what attaches or detaches a release: what is taken back while it is loaded must
        # not be there later.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._of_requests = Turns.of(shared.engine)
        # Threads of their own: requests of others need those that all of asyncio has. One loads at
        # a time, and what leaves does not wait for that.
        self._coming = ThreadPoolExecutor(1, "attaching")
        self._leaving = ThreadPoolExecutor(1, "detaching")

    async def attach(self, package_sha256: str, body: bytes) -> ModelList:
        """Load a release.

        `Refusal` of status 409 where it cannot share this process, and of 503 where its files
        change meanwhile.
        """
        order = _parse(package_sha256, body)
        async with self._turn_of(package_sha256):
            if package_sha256 in self._attached:
                raise _conflict(
                    f"Release {package_sha256[:12]} is in this process already. Detach it first.",
                    "release_exists",
                )
            attached = await self._load(order)
            self._attached[package_sha256] = attached
        return attached.models

    async def detach(self, package_sha256: str) -> None:
        """Cancel a release's answers and give its memory back; `Refusal` where it is not here.

        One that is being attached is waited for.
        """
        async with self._turn_of(package_sha256):
            attached = self._attached.pop(package_sha256, None)
            if attached is None:
                raise gone_error()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(
                self._leaving,
                attached.engine.close,
            )

    def _turn_of(self, package_sha256: str) -> asyncio.Lock:
        return self._turns.setdefault(package_sha256, asyncio.Lock())

    async def _load(self, order: ReleaseOrder) -> _Attached:
        loop = asyncio.get_running_loop()
        try:
            engine = await loop.run_in_executor(
                self._coming,
                self._shared.attach,
                order,
            )
        except Refusal:
            raise
        # The endpoint has just verified these files: somebody writes there.
        except DamagedFile as error:
            raise _changed_error(str(error)) from error
        except AssayError as error:
            raise _conflict(str(error), "release_not_shared") from error
        return _Attached(
            engine,
            self._of_requests,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request to a release."""
        attached = self._attached.get(scope["path_params"]["package_sha256"])
        if attached is None:
            response = error_response(gone_error())
            await response(scope, receive, send)
            return
        await attached.app(scope, receive, send)


def create_shared_app(shared: SharedBase) -> FastAPI:
    """The HTTP interface of a base that takes releases."""
    app = create_bare_app()
    releases = SharedReleases(shared)
    add_error_handlers(app)
    add_health_routes(app, shared.engine)

    @app.put(f"{RELEASES}/{{package_sha256}}")
    async def attach(package_sha256: str, request: Request) -> ModelList:
        body = await read_body(request)
        return await releases.attach(package_sha256, body)

    @app.delete(f"{RELEASES}/{{package_sha256}}", status_code=204)
    async def detach(package_sha256: str) -> Response:
        await releases.detach(package_sha256)
        return Response(status_code=204)

    app.router.routes.append(Mount(f"{RELEASES}/{{package_sha256}}", app=releases))
    return app


def _parse(package_sha256: str, body: bytes) -> ReleaseOrder:
    try:
        asked = AttachRequest.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(
            f"The body is no order to attach a release: {first_problem(error)}."
        ) from error
    return ReleaseOrder(
        package_sha256,
        Path(asked.package),
        asked.model_name,
        asked.default_max_tokens,
    )


def _conflict(message: str, code: str) -> Refusal:
    return Refusal(message, status=409, code=code)


def _changed_error(message: str) -> Refusal:
    return Refusal(
        message,
        status=503,
        kind="server_error",
        code="package_changed",
    )
