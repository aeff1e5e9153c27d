"""The owner of an engine process: the endpoint that started it, or the next one that took it over.

Only who knows the engine's token may ask it anything. An engine outlives an owner that was killed, so that the next endpoint finds
it loaded; without an owner it ends by itself after a grace period.
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
from serving.answer import error_response
from serving.refusal import Refusal

OWNER_HEADER = "x-assay-owner"
_SECONDS_BETWEEN_LOOKS = 0.5


class Ownership(Value):
    """What an owner tells its engine on stdin: a command line or a file could be read by others."""

    token: str
    owner: int
    """Process number of the endpoint."""
    seconds_without_owner: float

    @classmethod
    def from_stdin(cls) -> Self:
        """The first line of stdin."""
        try:
            return cls.model_validate_json(sys.stdin.readline())
        except ValueError:
            # Without its cause: pydantic would print the line, and the token with it.
            raise ServingError(
                "--owned needs an owner that writes token and process number to stdin. Leave it out."
            ) from None


class Owner:
    """The owner as it was last heard of."""

    def __init__(self, ownership: Ownership) -> None:
        self._process = _process(ownership.owner)
        self._grace = ownership.seconds_without_owner
        self._was_heard = False
        self._is_lost = False

    def hear(self, pid: str) -> None:
        """An endpoint with the token asked something: the engine is its own from here on."""
        is_another = self._process is None or pid != str(self._process.pid)
        if pid.isdecimal() and (self._is_lost or is_another):
            self._process, self._is_lost = _process(int(pid)), False
        self._was_heard = True

    @property
    def is_there(self) -> bool:
        """Whether that very process runs: a number that was given out again is another one."""
        try:
            return (
                self._process is not None
                and self._process.is_running()
                and self._process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False

    def watch(self) -> None:
        """End this process once it has had no owner for too long."""
        threading.Thread(target=self._watch, name="owner", daemon=True).start()

    def _watch(self) -> None:
        last_seen = time.monotonic()
        while True:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if self.is_there:
                last_seen = time.monotonic()
                continue
            if not self._is_lost:
                self._is_lost = True
                _speak_to_nobody()
            # An engine that no owner ever asked anything is in no record: nobody could take it over.
            if not self._was_heard or time.monotonic() - last_seen > self._grace:
                os._exit(1)


class ForTheOwner:
    """An app that answers only requests with the owner's token, health checks included."""

    def __init__(self, app: ASGIApp, token: str, owner: Owner) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()
        self._owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope)
        if not hmac.compare_digest(
            headers.get("authorization", "").encode(), self._expected
        ):
            await error_response(_refusal())(scope, receive, send)
            return
        self._owner.hear(headers.get(OWNER_HEADER, ""))
        await self._app(scope, receive, send)


def _refusal() -> Refusal:
    fact = "This engine answers its endpoint alone. Ask the endpoint: `assay status` shows its address."
    return Refusal(fact, status=401, code="unauthorized")


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except (psutil.Error, ValueError, OverflowError):
        return None


def _speak_to_nobody() -> None:
    """The owner read this process's output. A library that writes to it now must not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
