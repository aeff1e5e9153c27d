"""What a browser sees at `/` of the endpoint: it is sent to the playground, or told what to do."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from serving.app import READ
from serving.playground.address import running_playground

_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
_NO_PAGE = (
    "This is an endpoint of Assay. Programs call it at /v1, as OpenAI's API.\n"
    "`assay playground` starts a page to try it in a browser.\n"
)


def add_front_page(app: FastAPI, home: Path) -> None:
    """Have `/` lead to the playground of that home, while one runs."""

    @app.api_route("/", methods=READ)
    async def front_page(request: Request) -> Response:
        page = running_playground(home)
        is_here = request.url.hostname in _THIS_MACHINE
        # Whoever asks from elsewhere reaches no page that listens for this machine alone.
        if page is None or (page.is_local and not is_here):
            return PlainTextResponse(_NO_PAGE)
        # By the name that the client used, which was checked to be this machine's.
        address = request.url.replace(
            scheme="http",
            port=page.port,
            path="/",
            query="",
        )
        # Temporary, since the next playground may have another port.
        return RedirectResponse(str(address), status_code=307)
