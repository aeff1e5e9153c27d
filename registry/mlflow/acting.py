"""Who acts in MLflow's server: the account of a request, the server itself, or nobody known."""

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

Scope = MutableMapping[str, Any]
_App = Callable[[Scope, Any, Any], Awaitable[None]]
_REQUEST: ContextVar[Scope | None] = ContextVar("request", default=None)
NOBODY = ""
"""An unknown account: it may change nothing."""


class _Server:
    """Before it takes requests, the server prepares its database; later changes need an account."""

    takes_requests = False


def take_requests() -> None:
    """From here on nothing is changed on the server's own account."""
    _Server.takes_requests = True


def current_account() -> str | None:
    """The account's name, `NOBODY`, or None for the server that prepares itself.

    A thread that a request started brings no account with it, so that it is nobody.
    """
    import flask

    # Flask's own routes come first: MLflow's login leaves the account there.
    if flask.has_request_context():
        user = getattr(flask.g, "mlflow_authenticated_user", None)
        return str(user or NOBODY)
    scope = _REQUEST.get()
    if scope is not None:
        user = scope.get("state", {}).get("username")
        return str(user or NOBODY)
    return NOBODY if _Server.takes_requests else None


def remember_requests(app: _App) -> _App:
    """Wrap the application so that `current_account` knows requests that flask does not see."""

    async def remembering_app(scope: Scope, receive: Any, send: Any) -> None:
        token = _REQUEST.set(scope)
        # Reset even on an error: the next request in this context must not inherit the account.
        try:
            await app(scope, receive, send)
        finally:
            _REQUEST.reset(token)

    return remembering_app
