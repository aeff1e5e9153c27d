"""How many connections and requests a server holds, and how long a client may take: who is slow or silent harms nobody else."""

import asyncio
import json
import resource
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.answer import error_response
from serving.host_names import check_host, target_authority
from serving.refusal import Refusal, overloaded
from serving.wire import StrictConnection

_MOST_AT_WORK = 256
_MOST_CONNECTIONS = 2048
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_HEAR = 1.0


class TimedConnection(H11Protocol):
    """A connection that is closed when no whole request head arrives on it in time, after its opening and after each answer.

    By itself uvicorn waits without end for a first byte, and for the rest of a head or of a body that was answered already.
    It also takes a client that has said all it had to say for one that has left, and answers a broken request in plain text.
    """

    _due: asyncio.TimerHandle | None = None
    _says_no_more = False
    _is_refused = False

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.conn = self._wire = StrictConnection()

    @property
    def is_answering(self) -> bool:
        """A request's head is there, and its answer is not whole."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_waiting(self) -> bool:
        """It holds no whole request, so that nothing is lost for good where it is closed."""
        return not self.transport.is_closing() and (
            not self.is_answering or self.cycle.more_body
        )

    @property
    def waits_until(self) -> float:
        """When its time is over, or would be if the head of its request were not there."""
        return self._due.when() if self._due is not None else 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Opened: its time begins, and whoever has waited longest goes where there are too many."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > most_connections():
            waiting = [
                each
                for each in self.connections
                if isinstance(each, TimedConnection) and each.is_waiting
            ]
            min(waiting, key=lambda each: each.waits_until).transport.abort()

    def data_received(self, data: bytes) -> None:
        """What follows a broken request, or one that was to be the last, is not read."""
        if not self._is_refused and self.conn.their_state is not h11.MUST_CLOSE:
            super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. It may have left or wait for its answer, which TCP does not tell apart."""
        if not self.is_answering or self.cycle.more_body:
            return False
        if not self._says_no_more:
            self._says_no_more = True
            self._look_for_client()
        return True

    def handle_events(self) -> None:
        """A request's head ends the waiting."""
        super().handle_events()
        if self.is_answering and self._due is not None:
            self._due.cancel()

    def on_response_complete(self) -> None:
        """An answer is whole: the next request has its time."""
        super().on_response_complete()
        if self.is_answering:
            return
        if self._says_no_more:
            self.transport.close()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        super().connection_lost(exc)
        if self._due is not None:
            self._due.cancel()

    def send_400_response(self, msg: str) -> None:
        """Say in OpenAI's form what is wrong with a request, and close; nothing of it is answered otherwise."""
        self._is_refused = True
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        self._write_refusal(_broken(self._wire.fault))
        # To close with bytes unread would reset the connection, and the client might never see the answer.
        with suppress(OSError):
            self.transport.write_eof()
        self.loop.call_later(_SECONDS_TO_HEAR, self.transport.close)

    def _write_refusal(self, refusal: Refusal) -> None:
        is_head = (
            self.conn.our_state is h11.SEND_RESPONSE and self.scope["method"] == "HEAD"
        )
        body = json.dumps(refusal.body()).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        start = h11.Response(
            status_code=refusal.status, headers=headers, reason=b"Bad Request"
        )
        for event in (
            start,
            h11.Data(data=b"" if is_head else body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")

    def _look_for_client(self) -> None:
        """Send `100 Continue`, which a client that waits passes over. One that left resets the connection, and the next write fails.

        An HTTP/1.0 client knows no such answer, so one that left is not noticed before its own is sent.
        """
        if not self.is_answering or self.transport.is_closing():
            return
        if not self.cycle.response_started and self.scope["http_version"] == "1.1":
            event = h11.InformationalResponse(
                status_code=100, headers=[], reason=b"Continue"
            )
            self.transport.write(self.conn.send(event))
        self.loop.call_later(_SECONDS_BETWEEN_LOOKS, self._look_for_client)

    def _wait(self) -> None:
        self._due = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class Front:
    """An app that answers to its own names alone, and so many requests at once. One counts when its body has been read.

    So a slow body takes nobody's place, and what has no body (health, readiness, the list of models) is always answered.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            check_host(scope, self._names)
        except Refusal as refusal:
            await error_response(refusal)(scope, receive, send)
        else:
            await self._count(_plain(scope), receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_counted = False

        async def receive_and_count() -> Message:
            nonlocal is_counted
            message = await receive()
            if not is_counted and _ends_a_body(message):
                self._begin()
                is_counted = True
            return message

        try:
            await self._app(scope, receive_and_count, send)
        finally:
            self._at_work -= is_counted

    def _begin(self) -> None:
        if self._at_work >= _MOST_AT_WORK:
            raise overloaded()
        self._at_work += 1


def _broken(fault: str) -> Refusal:
    return Refusal(
        f"This is no valid HTTP/1.1 request: {fault}. Let an HTTP client write it.",
        code="invalid_http",
    )


def most_connections() -> int:
    """Half of the files that this process may open: an answer needs a connection to an engine as well."""
    return min(_MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def _ends_a_body(message: Message) -> bool:
    return message["type"] == "http.request" and not message.get("more_body", False)


def _plain(scope: Scope) -> Scope:
    """The same request with its target as a path alone, and without a slash at its end, which names nothing else here.

    Starlette would send the client of such a path to another URL, made from the `Host` that it sent itself.
    """
    raw = scope.get("raw_path", b"")
    authority = target_authority(raw)
    path = (
        raw if authority is None else b"/" + raw.partition(b"://")[2].partition(b"/")[2]
    )
    if len(path) > 1:
        path = path.removesuffix(b"/")
    return {**scope, "path": unquote(path.decode("ascii")), "raw_path": path}
