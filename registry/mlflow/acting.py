"""Who acts in MLflow's server: the account that a request brought, the server itself, or nobody that is known."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

Scope = MutableMapping[str, Any]
_App = Callable[[Scope, Any, Any], Awaitable[None]]
_REQUEST: ContextVar[Scope | None] = ContextVar("request", default=None)
NOBODY = ""
"""Not known: it may do nothing that changes something."""


class _Server:
    """Before it takes requests, the server prepares its database itself; from then on every change needs an account."""

    takes_requests = False


def take_requests() -> None:
    """From here on nothing is changed on the server's own account."""
    _Server.takes_requests = True


def acting() -> str | None:
    """The account's name, `NOBODY`, or None for the server that prepares itself.

    A thread that a request started brings no account with it, so that it is nobody.
    """
    import flask

    if flask.has_request_context():
        return str(getattr(flask.g, "mlflow_authenticated_user", None) or NOBODY)
    request = _REQUEST.get()
    if request is not None:
        return str(request.get("state", {}).get("username") or NOBODY)
    return NOBODY if _Server.takes_requests else None


def remembers_requests(app: _App) -> _App:
    """The application, with each request at hand for `acting` on the routes that flask does not see."""

    async def remembering(scope: Scope, receive: Any, send: Any) -> None:
        token = _REQUEST.set(scope)
        try:
            await app(scope, receive, send)
        finally:
            _REQUEST.reset(token)

    return remembering
