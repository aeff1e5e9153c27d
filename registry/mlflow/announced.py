"""How a server says that it has admission, and how a client asks.

`GET …/assay/admission?model=NAME` changes nothing and needs no login. It names no model that the
asker did not name.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, quote

from core.errors import OperationError
from core.team_server import TeamServer

PATH = "/assay/admission"
_LONGEST = 1000
_BUSY = frozenset({408, 425, 429})
_FAILS_FROM = 500


def announcing(app: Any, governs: Callable[[str], bool]) -> Any:
    """The application, which answers that question before it asks for a login."""

    async def announcing_app(scope: Any, receive: Any, send: Any) -> None:
        if not _is_question(scope):
            await app(scope, receive, send)
            return
        from starlette.responses import JSONResponse

        name = _model_in(scope)
        answer = {
            "admission": "assay",
            "governs": governs(name),
        }
        respond = JSONResponse(answer)
        await respond(scope, receive, send)

    return announcing_app


def _is_question(scope: Any) -> bool:
    if scope["type"] != "http":
        return False
    if scope["method"] != "GET":
        return False
    path: str = scope["path"]
    # Behind a prefix, too: MLflow's --static-prefix.
    return path.endswith(PATH)


def _model_in(scope: Any) -> str:
    # Nobody's model has a name that long.
    query: bytes = scope["query_string"][:_LONGEST]
    text = query.decode("ascii", "replace")
    names = parse_qs(text).get("model")
    return names[0] if names else ""


def admits(server: TeamServer, model: str) -> bool:
    """Whether the server has admission for that model; `OperationError` where it does not say."""
    name = quote(model, safe="")
    answer = server.ask(f"{PATH}?model={name}")
    # What stands in front of a server that restarts, or has too much to do, answers for it.
    if answer.status in _BUSY or answer.status >= _FAILS_FROM:
        raise OperationError(
            f"{server.place} answers {answer.status} to the question whether it has admission. "
            "Look whether it runs."
        )
    try:
        document = json.loads(answer.body)
    except ValueError:
        return False
    # A server without admission answers 404 or asks for a login; a proxy may answer anything.
    if answer.status != 200:
        return False
    if not isinstance(document, dict):
        return False
    is_assays = document.get("admission") == "assay"
    # A yes, and nothing that merely counts as one.
    return is_assays and document.get("governs") is True
