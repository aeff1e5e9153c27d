"""What an endpoint looks like to its clients: it answers as a test says, piece by piece."""

import asyncio
import json
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from serving.listen import create_server, open_socket
from tests.support.waiting import SECONDS_AT_MOST

TUNED, BASE = "letters", "smollm2-135m"


def error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "code": "x"}}, status)


@dataclass
class StandInEndpoint:
    """Answers under two names, a released model's and its base's, and what it was sent."""

    answers: dict[str, str] = field(
        default_factory=lambda: {TUNED: "tar -xzf a.tar.gz", BASE: "I am a model."}
    )
    key: str = ""
    """Nobody is answered without it; empty: everybody is."""
    breaks_off: bool = False
    refuses: str = ""
    never_ends: bool = False
    lists: str = ""
    """What it gives instead of its models."""
    takes_no_rating: str = ""
    """Why it takes none."""
    seconds_to_list: float = 0.0
    release: str = ""
    """Which release it says that it is, whatever was asked."""
    events: tuple[str, ...] = ()
    """What it sends instead of an answer, line by line."""
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    ratings: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Models whose client left before the end."""

    @contextmanager
    def running(self) -> Iterator["StandInEndpoint"]:
        """Listen on a free port of this machine for as long as the block runs."""
        listener = open_socket("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server = create_server(self._app())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(SECONDS_AT_MOST)
            listener.close()

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models(request: Request) -> Response:
            await asyncio.sleep(self.seconds_to_list)
            if self.lists:
                return Response(self.lists)
            return self._unauthorized(request) or JSONResponse({"data": self._cards()})

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            return self._unauthorized(request) or await self._answer(request)

        @app.post("/v1/feedback")
        async def feedback(request: Request) -> Response:
            if self.takes_no_rating:
                return error(503, self.takes_no_rating)
            rating = await request.json()
            if any(each["id"] == rating["id"] for each in self.ratings):
                return error(409, "That answer was rated already: rate another one.")
            self.ratings.append(rating)
            return JSONResponse(rating)

        return app

    def _unauthorized(self, request: Request) -> Response | None:
        if not self.key or request.headers.get("authorization") == f"Bearer {self.key}":
            return None
        return error(401, "Send an API key.")

    def _cards(self) -> list[dict[str, Any]]:
        return [
            {
                "id": name,
                "spec": {
                    "base_digest": "b" * 64,
                    "adapter_sha256": "a" * 64 if name == TUNED else None,
                },
            }
            for name in sorted(self.answers, reverse=True)
        ]

    async def _answer(self, request: Request) -> Response:
        asked = await request.json()
        self.asked.append(asked)
        self.addresses.append(request.headers.get("x-forwarded-for", ""))
        if self.refuses:
            return error(503, self.refuses)
        model = asked["model"]
        headers = {
            "x-assay-release": self.release or ("base" if model == BASE else "3"),
            "x-assay-fingerprint": f"fp_{model}",
        }
        return StreamingResponse(
            self._events(model), media_type="text/event-stream", headers=headers
        )

    async def _events(self, model: str) -> AsyncIterator[str]:
        for line in self.events:
            yield f"{line}\n"
        if self.events:
            return
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        text = self.answers[model]
        for piece in text.split(" "):
            delta = {"content": piece if piece == text.split(" ")[0] else f" {piece}"}
            event = {"id": answer_id, "choices": [{"delta": delta}]}
            # Letters as they are, as an engine writes them.
            yield f"data: {json.dumps(event, ensure_ascii=False)}\n\n"
        try:
            # Written on: that a client has left is noticed when it is written to.
            while self.never_ends:
                yield ": still\n\n"
                await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.left.append(model)
            raise
        if not self.breaks_off:
            yield "data: [DONE]\n\n"
