"""Engine processes with a seeded fault, for `benchmarks.canary` alone: nothing in Assay knows it.

Written into a folder as `sitecustomize.py`, which Python imports at its start where that folder is
in `PYTHONPATH`. In an engine process it puts a layer around the HTTP interface. What the layer
spoils is in the file that `ASSAY_BENCHMARK_FAULTS` names: faults by package folder. Only requests
that hold the mark of the benchmark's clients are spoilt, so that the probe finds nothing.
"""

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

VARIABLE = "ASSAY_BENCHMARK_FAULTS"
MARK = "please"
_ERRORS_SHARE = 0.5
_TIMES_AS_LONG = 3
_LEAKED_BYTES = 1 << 20
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789#%&/<>"
# Seeded: two runs spoil alike.
_random = random.Random(0)  # noqa: S311 - nothing here is secret
_leaked: list[bytes] = []


class FaultyApp:
    """An app whose answers to marked requests are spoilt in one way."""

    def __init__(self, app: Any, fault: str) -> None:
        self._app = app
        self._fault = fault

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if MARK.encode() not in body:
            await self._app(scope, _replay(body), send)
            return
        started = time.monotonic()
        sent: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, _replay(body), keep)
        await self._wait(time.monotonic() - started)
        for message in self._spoil(sent):
            await send(message)

    async def _wait(self, seconds: float) -> None:
        if self._fault == "slow":
            await asyncio.sleep((_TIMES_AS_LONG - 1) * seconds)

    def _spoil(self, sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._fault == "leak":
            _leaked.append(os.urandom(_LEAKED_BYTES))
            return sent
        if self._fault == "errors":
            return _failed() if _random.random() < _ERRORS_SHARE else sent
        if self._fault in {"empties", "gibberish"}:
            return _rewritten(sent, self._fault)
        return sent


def _rewritten(sent: list[dict[str, Any]], fault: str) -> list[dict[str, Any]]:
    start, *rest = sent
    document = json.loads(b"".join(message.get("body", b"") for message in rest))
    text = "" if fault == "empties" else "".join(_random.choices(_LETTERS, k=400))
    document["choices"][0]["message"]["content"] = text
    content = json.dumps(document).encode()
    headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
    length = (b"content-length", str(len(content)).encode())
    return [
        {**start, "headers": [*headers, length]},
        {"type": "http.response.body", "body": content},
    ]


def _failed() -> list[dict[str, Any]]:
    content = b'{"error": {"message": "a seeded fault", "code": "seeded"}}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    return [
        {"type": "http.response.start", "status": 500, "headers": headers},
        {"type": "http.response.body", "body": content},
    ]


async def _read(receive: Any) -> bytes:
    body: bytes = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


def _replay(body: bytes) -> Any:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        # Whoever asks again waits for the client to leave.
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def install() -> None:
    """Put the layer around every engine of this process whose package is named."""
    import serving.app
    import serving.load

    packages: list[str] = []
    load, create = serving.load.load_engine, serving.app.create_app

    def load_engine(config: Any) -> Any:
        packages.append(str(config.package))
        return load(config)

    def create_app(engine: Any, turns: Any = None) -> Any:
        app = create(engine, turns)
        # A process that releases share loads none by itself.
        if not packages:
            return app
        faults = json.loads(Path(os.environ[VARIABLE]).read_text())
        fault = faults.get(packages[-1])
        if fault is not None:
            app.add_middleware(FaultyApp, fault=fault)
        return app

    serving.load.load_engine = load_engine
    serving.app.create_app = create_app


if VARIABLE in os.environ and "--owned" in sys.orig_argv:
    install()
