"""How many connections and requests a server holds, and how long a client may take.

A client that is slow or silent costs itself its connection, and other clients nothing.
"""

import asyncio
import json
import resource
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipelines.engines.refusal import Refusal, overloaded_error
from serving.answer import error_response
from serving.host_names import check_host, target_authority
from serving.wire import StrictConnection

# Requests whose body has been read and whose answer is not complete.
_MOST_AT_WORK = 256
_MOST_CONNECTIONS = 2048
# How soon a client that left is noticed, once it has said that it sends no more.
_SECONDS_BETWEEN_LOOKS = 0.5
# For a client to read so much of its answer that the next piece can be sent. What is sent waits in
# the system's memory first, a few megabytes: only who has long stopped to read comes to this.
_SECONDS_TO_READ = 60.0
# For a client that was refused to read why, before its connection is closed.
_SECONDS_TO_HEAR = 1.0


class TimedConnection(H11Protocol):
    """A connection that is closed when no whole request head arrives on it in time.

    The time runs from its opening, and again from the end of each answer. By itself uvicorn waits
    without end for a first byte, and for the rest of a head or of a body that was answered
    already. It also takes a client that sends no more for one that has left, and answers a
    malformed request in plain text.

    `H11Protocol` is a private class of uvicorn: pyproject.toml pins its minor version, and
    tests/serving/test_uvicorn_parts.py fails where the class changes.
    """

    _deadline: asyncio.TimerHandle | None = None
    _reading_deadline: asyncio.TimerHandle | None = None
    _sends_no_more = False
    _is_refused = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # uvicorn's own `conn`, exchanged for one that reads strictly. The second name has its type.
        self.conn = self._wire = StrictConnection()

    @property
    def is_answering(self) -> bool:
        """Whether a request's head is there, and its answer is not complete."""
        if self.cycle is None:
            return False
        return not self.cycle.response_complete

    @property
    def is_waiting(self) -> bool:
        """Whether it holds no whole request, so that closing it loses no answer."""
        if self.transport.is_closing():
            return False
        if not self.is_answering:
            return True
        return self.cycle.more_body

    @property
    def waits_until(self) -> float:
        """When its time is over, or would be if the head of its request were not there.

        In seconds of the event loop's clock.
        """
        if self._deadline is None:
            return 0.0
        return self._deadline.when()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start its time; where there are too many, close the one that has waited longest."""
        super().connection_made(transport)
        self._start_time()
        if len(self.connections) <= connection_limit():
            return
        waiting = [
            connection
            for connection in self.connections
            if isinstance(connection, TimedConnection) and connection.is_waiting
        ]
        longest = min(waiting, key=lambda connection: connection.waits_until)
        longest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read it, unless it follows a malformed request or one that was to be the last."""
        if self._is_refused:
            return
        if self.conn.their_state is not h11.MUST_CLOSE:
            super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. It may have left or wait for its answer: TCP does not say.

        True keeps the connection open.
        """
        if not self.is_answering or self.cycle.more_body:
            return False
        # TLS says when a client ends: that one has left.
        if self.transport.get_extra_info("sslcontext") is not None:
            return False
        if not self._sends_no_more:
            self._sends_no_more = True
            self._look_for_client()
        return True

    def handle_events(self) -> None:
        """Stop the clock once a request's head is there."""
        super().handle_events()
        if self.is_answering and self._deadline is not None:
            self._deadline.cancel()

    def on_response_complete(self) -> None:
        """Start the next request's time once an answer is complete."""
        super().on_response_complete()
        # The client sent its next request before it had this answer.
        if self.is_answering:
            return
        if self._sends_no_more:
            self.transport.close()
        else:
            self._start_time()

    def pause_writing(self) -> None:
        """Start the time of a client that does not read: its answer holds a place for it."""
        super().pause_writing()
        self._reading_deadline = self.loop.call_later(
            _SECONDS_TO_READ, self.transport.abort
        )

    def resume_writing(self) -> None:
        """Stop that time: it has read."""
        super().resume_writing()
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks: no request comes any more, and nobody reads."""
        super().connection_lost(exc)
        for deadline in (self._deadline, self._reading_deadline):
            if deadline is not None:
                deadline.cancel()

    def send_400_response(self, msg: str) -> None:
        """Say in OpenAI's form what is wrong with a request, and close the connection."""
        self._is_refused = True
        # An answer to what came of it so far, such as a body whose chunks broke off, is not sent.
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        self._write_refusal(_malformed_error(self._wire.fault))
        # To close with bytes unread would reset the connection, and the client might never see
        # the answer.
        # TLS has no such half of an end.
        with suppress(OSError, NotImplementedError):
            self.transport.write_eof()
        self.loop.call_later(_SECONDS_TO_HEAR, self.transport.close)

    def _write_refusal(self, refusal: Refusal) -> None:
        body = json.dumps(refusal.body()).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        start = h11.Response(
            status_code=refusal.status,
            headers=headers,
            reason=b"Bad Request",
        )
        # Without a request's head there is no method to look at.
        has_head = self.conn.our_state is h11.SEND_RESPONSE
        # The answer to HEAD says how long a body would be, and has none.
        is_head_method = has_head and self.scope["method"] == "HEAD"
        content = h11.Data(data=b"" if is_head_method else body)
        for event in (start, content, h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _look_for_client(self) -> None:
        """Send `100 Continue`, which a client that waits passes over.

        A client that left resets the connection, and the next write fails. An HTTP/1.0 client
        knows no such answer, so one that left is not noticed before its own is sent.
        """
        if not self.is_answering or self.transport.is_closing():
            return
        is_version_1_1 = self.scope["http_version"] == "1.1"
        if is_version_1_1 and not self.cycle.response_started:
            event = h11.InformationalResponse(
                status_code=100,
                headers=[],
                reason=b"Continue",
            )
            sent = self.conn.send(event)
            self.transport.write(sent)
        self.loop.call_later(_SECONDS_BETWEEN_LOOKS, self._look_for_client)

    def _start_time(self) -> None:
        # uvicorn's own handler closes the connection, whatever the time was for.
        self._deadline = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class GuardedApp:
    """An app that answers to its own names alone, and so many requests at once.

    A request counts when its body has been read. So a slow body takes nobody's place, and what
    has no body (health, readiness, the list of models) is always answered.
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
            response = error_response(refusal)
            await response(scope, receive, send)
        else:
            await self._answer(_normalize_path(scope), receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_counted = False

        async def receive_and_count() -> Message:
            nonlocal is_counted
            message = await receive()
            if not is_counted and _ends_body(message):
                self._take_place()
                is_counted = True
            return message

        try:
            await self._app(scope, receive_and_count, send)
        finally:
            # A request that found no place, or that has no body, was not counted.
            self._at_work -= is_counted

    def _take_place(self) -> None:
        if self._at_work >= _MOST_AT_WORK:
            raise overloaded_error()
        self._at_work += 1


def connection_limit() -> int:
    """Half of the files that this process may open, and at most 2048.

    An answer of the endpoint needs a connection to an engine as well.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_MOST_CONNECTIONS, files // 2)


def _malformed_error(fault: str) -> Refusal:
    return Refusal(
        f"This is no valid HTTP/1.1 request: {fault}. Let an HTTP client write it.",
        code="invalid_http",
    )


def _ends_body(message: Message) -> bool:
    if message["type"] != "http.request":
        return False
    return not message.get("more_body", False)


def _normalize_path(scope: Scope) -> Scope:
    """The same request with a path alone as its target, and without a slash at its end.

    Starlette would send the client of such a path to another URL, made from the `Host` that the
    client sent itself. A slash at the end names nothing else on this server.
    """
    raw = scope.get("raw_path", b"")
    path = raw
    if target_authority(raw) is not None:
        after_scheme = raw.partition(b"://")[2]
        path = b"/" + after_scheme.partition(b"/")[2]
    if len(path) > 1:
        path = path.removesuffix(b"/")
    text = unquote(path.decode("ascii"))
    return {**scope, "path": text, "raw_path": path}
