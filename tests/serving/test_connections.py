"""Clients that are silent, slow or too many.

What they cost themselves, and that the others go on.
"""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import serving.connections
import serving.listen
import serving.prompts
from pipelines.engines import Engine
from pipelines.values.dataset import Message
from serving.connections import TimedConnection
from tests.support.running_engine import Endpoint, running
from tests.support.waiting import SECONDS_AT_MOST, wait_until

if TYPE_CHECKING:
    import uvicorn

BODY = json.dumps(
    {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
).encode()
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
    b"application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
)
JSON = {"content-type": "application/json"}
PATIENCE = 1.0


@pytest.fixture
def impatient(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """An endpoint that waits `PATIENCE` seconds for a request's head."""
    monkeypatch.setattr(serving.listen, "_SECONDS_FOR_A_HEAD", PATIENCE)
    with running(engine) as endpoint:
        yield endpoint


@contextmanager
def clients(
    endpoint: Endpoint, count: int, sent: bytes = b""
) -> Iterator[list[socket.socket]]:
    """So many connections on which no more than `sent` is sent."""
    with ExitStack() as stack:
        found = [
            stack.enter_context(
                socket.create_connection(
                    (endpoint.host, endpoint.port), timeout=SECONDS_AT_MOST
                )
            )
            for _ in range(count)
        ]
        for each in found:
            each.sendall(sent)
        yield found


def answers(endpoint: Endpoint) -> list[int]:
    """The statuses of a completion and of a health check."""
    asked = httpx.post(
        f"{endpoint.url}/v1/chat/completions",
        content=BODY,
        headers=JSON,
        timeout=SECONDS_AT_MOST,
    )
    return [
        asked.status_code,
        httpx.get(f"{endpoint.url}/healthz", timeout=SECONDS_AT_MOST).status_code,
    ]


def next_status(client: socket.socket) -> int:
    """The status of the next answer on this connection, which is read whole."""
    answer = http.client.HTTPResponse(client, method="POST")
    answer.begin()
    answer.read()
    return answer.status


def is_closed(client: socket.socket, sent: bytes = b"", seconds: float = 30) -> bool:
    """Whether the other side ends the connection in time, though `sent` is sent all the while."""
    deadline = time.monotonic() + seconds
    client.settimeout(0.1)
    while time.monotonic() < deadline:
        try:
            client.sendall(sent)
            if client.recv(4096) == b"":
                return True
        except TimeoutError:
            pass
        except OSError:
            return True
    return False


def is_kept(endpoint: Endpoint) -> bool:
    """Whether a connection lasts over requests that together take longer than a head may.

    False where this machine held one of them up.
    """
    before = time.monotonic()
    with clients(endpoint, 1) as (client,):
        for _ in range(3):
            asked = time.monotonic()
            client.sendall(HEAD + BODY)
            if time.monotonic() - before > PATIENCE:
                return False
            assert next_status(client) == 200
            before = asked
            time.sleep(PATIENCE * 0.5)
        assert is_closed(client, b"x")
    return True


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/chat/comp", HEAD + BODY[:5]],
    ids=["silent", "half a head", "half a body"],
)
def test_hundreds_of_clients_that_wait_hinder_nobody(
    endpoint: Endpoint, sent: bytes
) -> None:
    with clients(endpoint, 300, sent) as found:
        assert answers(endpoint) == [200, 200]
        assert not is_closed(found[0], seconds=0.2)


def test_a_client_that_sends_nothing_is_closed(impatient: Endpoint) -> None:
    with clients(impatient, 1) as (client,):
        assert is_closed(client)


def test_a_head_that_drips_in_is_closed(impatient: Endpoint) -> None:
    with clients(impatient, 1, b"GET /healthz HTTP/1.1\r\n") as (client,):
        assert is_closed(client, b"x: y\r\n")


def test_a_body_that_drips_in_after_its_answer_is_closed(impatient: Endpoint) -> None:
    with clients(
        impatient,
        1,
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
    ) as (client,):
        assert is_closed(client, b"x")


def test_a_connection_is_used_again_and_its_next_head_has_the_same_time(
    impatient: Endpoint,
) -> None:
    wait_until(lambda: is_kept(impatient))


def test_a_request_whose_body_comes_later_than_a_head_may_is_answered(
    impatient: Endpoint,
) -> None:
    with clients(impatient, 1, HEAD) as (client,):
        time.sleep(PATIENCE * 2)
        client.sendall(BODY)
        assert next_status(client) == 200


@pytest.mark.parametrize("sent", [b"", HEAD + BODY[:5]], ids=["silent", "half a body"])
def test_with_too_many_connections_the_one_that_waited_longest_goes(
    endpoint: Endpoint, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.connections, "_MOST_CONNECTIONS", 10)
    with clients(endpoint, 10, sent) as (first, *others):
        assert answers(endpoint) == [200, 200]
        assert is_closed(first)
        assert not is_closed(others[-1], seconds=0.2)


def test_one_request_too_many_is_told_to_come_back_and_health_is_still_told(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.connections, "_MOST_AT_WORK", 0)
    refused = httpx.post(
        f"{endpoint.url}/v1/chat/completions",
        content=BODY,
        headers=JSON,
        timeout=SECONDS_AT_MOST,
    )
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "overloaded"
    assert refused.headers["retry-after"]
    assert (
        httpx.get(f"{endpoint.url}/healthz", timeout=SECONDS_AT_MOST).status_code
        == httpx.get(f"{endpoint.url}/readyz", timeout=SECONDS_AT_MOST).status_code
        == 200
    )


def test_a_request_that_is_answered_or_left_makes_room_for_the_next(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.connections, "_MOST_AT_WORK", 1)
    for is_answered in (True, False, True):
        with clients(endpoint, 1, HEAD + BODY) as (client,):
            assert not is_answered or next_status(client) == 200
        wait_until(lambda: answers(endpoint) == [200, 200])


class _TakesItsTime:
    """A real engine that needs until it is let go for the tokens of a long prompt."""

    def __init__(self, engine: Engine) -> None:
        self.specs, self.context_tokens, self.is_ready = (
            engine.specs,
            engine.context_tokens,
            True,
        )
        self.submit, self.close = engine.submit, engine.close
        self.plain_text, self.json_form = engine.plain_text, engine.json_form
        self.may_go_on, self.has_begun = threading.Event(), threading.Event()
        self._ids = engine.prompt_ids

    def prompt_ids(self, messages: Sequence[Message], model: str) -> list[int]:
        if len(messages[0].content) > 1:
            self.has_begun.set()
            self.may_go_on.wait(SECONDS_AT_MOST)
        return self._ids(messages, model)


def test_a_short_prompt_passes_any_number_of_long_ones(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.prompts, "_LONG_PROMPT", 100)
    slow, body = _TakesItsTime(engine), BODY.replace(b'"x"', b'"' + b"x" * 1000 + b'"')
    long = HEAD.replace(b"%d" % len(BODY), b"%d" % len(body)) + body
    with (
        running(slow) as endpoint,
        clients(endpoint, 40, long) as waiting,
    ):  # more than there are threads
        try:
            assert slow.has_begun.wait(SECONDS_AT_MOST)
            assert answers(endpoint) == [200, 200]
        finally:
            slow.may_go_on.set()
        for each in waiting:
            each.settimeout(60)
        assert {next_status(each) for each in waiting} == {400}


# More than the system holds for a client that does not read.
LARGE = 40_000_000


@contextmanager
def large_answer() -> Iterator[tuple["uvicorn.Server", socket.socket, list[str]]]:
    """A server, a client that asked for a large answer, and whether sending it has ended."""
    ended: list[str] = []
    app = FastAPI()

    @app.get("/large")
    async def large() -> StreamingResponse:
        async def content() -> AsyncIterator[bytes]:
            try:
                for _ in range(LARGE // 100_000):
                    yield b"x" * 100_000
            finally:
                ended.append("large")

        return StreamingResponse(content())

    listener = serving.listen.open_socket("127.0.0.1", 0)
    server = serving.listen.create_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with socket.create_connection(listener.getsockname()[:2]) as client:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            yield server, client, ended
    finally:
        server.should_exit = True
        thread.join(SECONDS_AT_MOST)
        listener.close()


def bytes_left_for(client: socket.socket) -> int:
    """How much comes until the other side ends the connection."""
    count = 0
    with suppress(ConnectionError):
        while piece := client.recv(1_000_000):
            count += len(piece)
    return count


@pytest.mark.ci
def test_a_client_that_stops_to_read_its_answer_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving.connections, "_SECONDS_TO_READ", PATIENCE / 10)
    with large_answer() as (_, client, ended):
        wait_until(lambda: bool(ended))
        # What the system held is still there; the end of it is not.
        assert bytes_left_for(client) < LARGE


def deadlines_of(server: "uvicorn.Server") -> list[asyncio.TimerHandle]:
    """Of clients that the server has had to wait for."""
    found = []
    for connection in tuple(server.server_state.connections):
        assert isinstance(connection, TimedConnection)
        if connection._reading_deadline is not None:
            found.append(connection._reading_deadline)
    return found


@pytest.mark.ci
def test_a_client_that_reads_again_has_its_time_anew() -> None:
    with large_answer() as (server, client, _):
        # Until then nothing is read: the server has to wait for the client.
        wait_until(lambda: bool(deadlines_of(server)))
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert len(answer.read()) == LARGE
        (deadline,) = deadlines_of(server)
        assert deadline.cancelled()
