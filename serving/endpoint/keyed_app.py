"""An app that answers holders of an API key, each within its quotas."""

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.engines.refusal import Refusal
from serving.answer import error_response
from serving.endpoint.api_keys import ApiKey, ApiKeyBook
from serving.endpoint.feedback import client_of
from serving.endpoint.quotas import Quotas
from serving.endpoint.token_meter import BodyMeter, TokenMeter

TENANT = "assay.tenant"
"""Of a request's scope: the id of its API key; empty where none is asked for."""
# What says nothing of anybody: load balancers, browsers and generators ask without a key.
# Whole paths: what lies under one of them asks for a key.
_OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
_UNAUTHORIZED = 401
CountRefused = Callable[[str, Refusal], None]


def _count_nothing(_path: str, _refusal: Refusal) -> None:
    """Where nobody reads metrics."""


class KeyedApp:
    """Asks for a key before anything of a request is read, and counts what its answer takes."""

    def __init__(
        self,
        app: ASGIApp,
        book: ApiKeyBook,
        count_refused: CountRefused = _count_nothing,
    ) -> None:
        self._app = app
        self._book = book
        self._count_refused = count_refused
        self._quotas = Quotas()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        try:
            key = await self._admit(scope)
        except Refusal as refusal:
            # Here: what watches requests stands behind this door.
            self._count_refused(scope["path"], refusal)
            await _refuse(refusal, scope, receive, send)
            return
        if key is None:
            await self._app({**scope, TENANT: ""}, receive, send)
            return
        meter = TokenMeter()
        body = BodyMeter(receive)

        async def send_metered(message: Message) -> None:
            meter.take(message)
            await send(message)

        try:
            await self._app({**scope, TENANT: key.id}, body.receive, send_metered)
            # Not of an app that failed, which took nothing.
            meter.end(body.tokens)
        finally:
            # Also of an answer whose client left.
            await self._quotas.end_request(key, meter.tokens)

    async def _admit(self, scope: Scope) -> ApiKey | None:
        """The key of a request; `Refusal` where it has none that counts, or nothing left."""
        authorization = Headers(scope=scope).get("authorization", "")
        try:
            key = self._book.find(authorization)
        except Refusal as refusal:
            # A client that sends no key guesses none: it may not know yet that one is asked for.
            if refusal.status == _UNAUTHORIZED and authorization:
                client = scope.get("client") or ("", 0)
                await self._quotas.count_guess(client_of(client[0]))
            raise
        if key is not None:
            await self._quotas.begin_request(key)
        return key


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    header: dict[str, str] = {}
    if refusal.status == _UNAUTHORIZED:
        # HTTP wants it beside each 401.
        header["www-authenticate"] = "Bearer"
    response = error_response(refusal, header)
    await response(scope, receive, send)
