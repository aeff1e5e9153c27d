"""How many connections and requests a server holds, and how long a client may take: who is slow or silent harms nobody else."""

import asyncio
import resource
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.refusal import overloaded

_MOST_AT_WORK = 256
_MOST_CONNECTIONS = 2048


class TimedConnection(H11Protocol):
    """A connection that is closed when no whole request head arrives on it in time, after its opening and after each answer.

    By itself uvicorn waits without end for a first byte, and for the rest of a head or of a body that was answered already.
    """

    _due: asyncio.TimerHandle | None = None

    @property
    def is_answering(self) -> bool:
        """A request's head is there, and its answer is not whole."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_waiting(self) -> bool:
        """It holds no whole request, so that nothing is lost for good where it is closed."""
        return not self.transport.is_closing() and (not self.is_answering or self.cycle.more_body)

    @property
    def waits_until(self) -> float:
        """When its time is over, or would be if the head of its request were not there."""
        return self._due.when() if self._due is not None else 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Opened: its time begins, and whoever has waited longest goes where there are too many."""
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > most_connections():
            waiting = [each for each in self.connections if isinstance(each, TimedConnection) and each.is_waiting]
            min(waiting, key=lambda each: each.waits_until).transport.abort()

    def handle_events(self) -> None:
        """A request's head ends the waiting."""
        super().handle_events()
        if self.is_answering and self._due is not None:
            self._due.cancel()

    def on_response_complete(self) -> None:
        """An answer is whole: the next request has its time."""
        super().on_response_complete()
        if not self.is_answering:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        super().connection_lost(exc)
        if self._due is not None:
            self._due.cancel()

    def _wait(self) -> None:
        self._due = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)


class Counted:
    """An app that answers so many requests at once and refuses the others. One counts when its body has been read.

    So a slow body takes nobody's place, and what has no body (health, readiness, the list of models) is always answered.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._at_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_counted = False

        async def receive_and_count() -> Message:
            nonlocal is_counted
            message = await receive()
            if not is_counted and _ends_a_body(message):
                self._begin()
                is_counted = True
            return message

        try:
            await self._app(_without_host(scope), receive_and_count, send)
        finally:
            self._at_work -= is_counted

    def _begin(self) -> None:
        if self._at_work >= _MOST_AT_WORK:
            raise overloaded()
        self._at_work += 1


def most_connections() -> int:
    """Half of the files that this process may open: an answer needs a connection to an engine as well."""
    return min(_MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def _ends_a_body(message: Message) -> bool:
    return message["type"] == "http.request" and not message.get("more_body", False)


def _without_host(scope: Scope) -> Scope:
    """The same request where its target is a whole URL, as what goes through a proxy may have it (RFC 9112, 3.2.2)."""
    scheme, found, rest = scope.get("raw_path", b"").partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return scope
    path = b"/" + rest.partition(b"/")[2]
    return {**scope, "path": unquote(path.decode("ascii")), "raw_path": path}
