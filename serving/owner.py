"""The owner of an engine process: the endpoint that started it, or the next one that adopted it.

Only who knows the engine's token may ask it anything. An engine outlives an owner that was
killed, so that the next endpoint finds it loaded; without an owner it ends by itself after a
grace period.
"""

import hmac
import os
import sys
import threading
import time
from typing import Self

import psutil
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from core.errors import ServingError
from core.value import Value
from pipelines.engines.refusal import Refusal
from serving.answer import error_response

OWNER_HEADER = "x-assay-owner"
_SECONDS_BETWEEN_LOOKS = 0.5


class Ownership(Value):
    """What an owner tells its engine on stdin: others could read a command line or a file."""

    token: str
    # Process number of the endpoint.
    owner: int
    seconds_without_owner: float

    @classmethod
    def from_stdin(cls) -> Self:
        """The first line of stdin; `ServingError` where it is something else."""
        try:
            return cls.model_validate_json(sys.stdin.readline())
        except ValueError:
            # Without its cause: pydantic would print the line, and the token with it.
            raise ServingError(
                "--owned needs an owner that writes token and process number to stdin. "
                "Leave it out."
            ) from None


class Owner:
    """The process that owns this engine, as its last request named it."""

    def __init__(self, ownership: Ownership) -> None:
        self._process = _find_process(ownership.owner)
        self._grace = ownership.seconds_without_owner
        self._was_heard = False
        self._is_lost = False

    def note_request(self, pid: str) -> None:
        """An endpoint with the token asked something: it owns the engine from now on."""
        # Looking a process up takes time, so a known owner is not looked up at each request.
        if pid.isdecimal() and self._is_news(pid):
            self._process = _find_process(int(pid))
            self._is_lost = False
        self._was_heard = True

    @property
    def is_running(self) -> bool:
        """Whether that very process runs: a number that was given out again is another one."""
        process = self._process
        if process is None:
            return False
        try:
            if not process.is_running():
                return False
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def watch(self) -> None:
        """End this process once it has had no owner for too long."""
        watching = threading.Thread(target=self._watch, name="owner", daemon=True)
        watching.start()

    def _is_news(self, pid: str) -> bool:
        if self._is_lost or self._process is None:
            return True
        return pid != str(self._process.pid)

    def _watch(self) -> None:
        last_seen = time.monotonic()
        while True:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if self.is_running:
                last_seen = time.monotonic()
                continue
            if not self._is_lost:
                self._is_lost = True
                _discard_output()
            # An engine that no owner ever asked anything is in no record: nobody could adopt it.
            seconds_alone = time.monotonic() - last_seen
            if not self._was_heard or seconds_alone > self._grace:
                # Not sys.exit, which would end this thread alone.
                os._exit(1)


class OwnerOnlyApp:
    """An app that answers only requests with the owner's token, health checks included."""

    def __init__(self, app: ASGIApp, token: str, owner: Owner) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()
        self._owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        authorization = headers.get("authorization", "").encode()
        # Compared in constant time, so that how long it takes says nothing about the token.
        if not hmac.compare_digest(authorization, self._expected):
            response = error_response(_unauthorized_error())
            await response(scope, receive, send)
            return
        self._owner.note_request(headers.get(OWNER_HEADER, ""))
        await self._app(scope, receive, send)


def _unauthorized_error() -> Refusal:
    return Refusal(
        "This engine answers its endpoint alone. "
        "Ask the endpoint: `assay status` shows its address.",
        status=401,
        code="unauthorized",
    )


def _find_process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except (psutil.Error, ValueError, OverflowError):
        return None


def _discard_output() -> None:
    """The owner read this process's output. A library that writes to it now must not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    # By number: a library in C knows nothing of sys.stdout and sys.stderr.
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
