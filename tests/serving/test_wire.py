"""Requests as bytes: what is no unambiguous HTTP is refused and the connection closed."""

import json
import logging
import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

import serving.connections
from core.errors import ServingError
from pipelines.engines import Engine
from serving.host_names import configured_names
from tests.support.running_engine import Endpoint, running
from tests.support.waiting import SECONDS_AT_MOST

BODY = json.dumps(
    {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
).encode()
JSON = b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n" + JSON
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def connected(endpoint: Endpoint) -> Iterator[socket.socket]:
    """A connection on which whoever waits too long is told so."""
    with socket.create_connection(
        (endpoint.host, endpoint.port), timeout=SECONDS_AT_MOST
    ) as client:
        yield client


def received(client: socket.socket) -> bytes:
    """All that comes until the other side ends the connection."""
    pieces = []
    with suppress(ConnectionResetError):
        while piece := client.recv(65_536):
            pieces.append(piece)
    return b"".join(pieces)


def statuses(answers: bytes) -> list[int]:
    """Of every answer, but for `100 Continue`."""
    found = re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)
    return [int(status) for status in found if status != b"100"]


def after(endpoint: Endpoint, *pieces: bytes) -> list[int]:
    """The statuses of all answers to these bytes, once the server has closed the connection."""
    with connected(endpoint) as client:
        with suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                client.sendall(piece)
        return statuses(received(client))


AMBIGUOUS = {
    "both lengths": POST + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "both lengths, the other way round": POST + CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    "no length and chunks": POST + CHUNKED + b"Content-Length: 0\r\n\r\n" + CHUNKS,
    "two lengths": POST + LENGTH + b"Content-Length: 5\r\n\r\n" + BODY,
    "two lengths in one header": POST
    + b"Content-Length: %d, 5\r\n\r\n" % len(BODY)
    + BODY,
    "a signed length": POST + b"Content-Length: +%d\r\n\r\n" % len(BODY) + BODY,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length in hexadecimal": POST + b"Content-Length: 0x10\r\n\r\n" + BODY,
    "a length without digits": POST + b"Content-Length: \r\n\r\n" + BODY,
    "another coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "identity": POST + b"Transfer-Encoding: identity\r\n" + LENGTH + b"\r\n" + BODY,
    "two codings": POST + CHUNKED + CHUNKED + b"\r\n" + CHUNKS,
    "a coding with a parameter": POST
    + b"Transfer-Encoding: chunked;a=b\r\n\r\n"
    + CHUNKS,
    "a coding after a vertical tab": POST
    + b"Transfer-Encoding:\x0bchunked\r\n\r\n"
    + CHUNKS,
    "an empty coding": POST + b"Transfer-Encoding: \r\n" + LENGTH + b"\r\n" + BODY,
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n" + CHUNKS,
    "a folded line": GET + b"X: a\r\n b\r\n\r\n",
    "a folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKS,
    "a folded line with a tab": GET + b"X: a\r\n\tb\r\n\r\n",
    "a folded first line": b"GET /healthz HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "lines that end in LF": GET.replace(b"\r\n", b"\n") + b"\n",
    "one line that ends in LF": GET + b"X: a\nY: b\r\n\r\n",
    "a head that ends in LF LF": GET + b"X: a\n\n",
    "a head that ends in LF CR LF": GET + b"X: a\n\r\n",
    "a bare CR in a value": GET + b"X: a\rY: b\r\n\r\n",
    "two CR before an LF": GET + b"X: a\r\r\n\r\n",
    "NUL in a value": GET + b"X: a\x00b\r\n\r\n",
    "a control character in a value": GET + b"X: a\x01b\r\n\r\n",
    "NUL in a name": GET + b"X\x00: a\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
    "a tab before the colon": GET + b"X\t: a\r\n\r\n",
    "a line without colon": GET + b"X\r\n\r\n",
    "an empty name": GET + b": a\r\n\r\n",
    "a space before a name": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n X: a\r\n\r\n",
    "two spaces in the first line": b"GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no version": b"GET /healthz\r\nHost: localhost\r\n\r\n",
    "an unknown version": b"GET /healthz HTTP/1.9\r\nHost: localhost\r\n\r\n",
    "a later version": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an earlier version": b"GET /healthz HTTP/0.9\r\nHost: localhost\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: localhost\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    "a head without end": GET + b"X: " + b"a" * 300_000,
    "a whole head that is too long": GET + b"X: " + b"a" * 60_000 + b"\r\n\r\n",
}
BAD_CHUNKS = {
    "a chunk size without end": [b"0" * 300_000],
    "a chunk size that is too long": [b"0" * 30 + b"5\r\n"],
    "a chunk size that is no number": [b"x\r\n"],
    "a negative chunk size": [b"-1\r\n"],
    "a chunk size with a prefix": [b"0x5\r\n"],
    "a chunk size that ends in LF": [b"5\nhello\n0\n\n"],
    "a chunk size before a space": [b"5 ;a=b\r\n"],
    "an extension without end": [b"5;" + b"a" * 1000, b"a" * 300_000],
    "an extension that is too long": [
        b"5;" + b"a" * 60_000 + b"\r\nhello\r\n0\r\n\r\n"
    ],
    "an extension with a bare CR": [b"5;a\rb\r\nhello\r\n0\r\n\r\n"],
    "an extension with NUL": [b"5;a\x00b\r\nhello\r\n0\r\n\r\n"],
    "extensions that are too long together": [
        (b"1;" + b"a" * 200 + b"\r\n{\r\n") * 4000
    ],
    "a chunk longer than its size": [b"5\r\nhello!\r\n"],
    "a trailer without end": [CHUNKS[:-2] + b"X: " + b"a" * 300_000],
    "a trailer that is too long": [CHUNKS[:-2] + b"X: " + b"a" * 60_000 + b"\r\n\r\n"],
    "a trailer that is folded": [CHUNKS[:-2] + b"X: a\r\n b\r\n\r\n"],
    "a trailer that ends in LF": [CHUNKS[:-2] + b"X: a\n\r\n"],
    "a trailer without colon": [CHUNKS[:-2] + b"X\r\n\r\n"],
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused_and_ends_the_connection(
    endpoint: Endpoint, case: str
) -> None:
    assert after(endpoint, AMBIGUOUS[case] + GET + b"\r\n") == [400]


@pytest.mark.parametrize("case", BAD_CHUNKS)
def test_chunks_that_are_not_right_end_the_connection(
    endpoint: Endpoint, case: str
) -> None:
    assert after(endpoint, POST + CHUNKED + b"\r\n", *BAD_CHUNKS[case]) == [400]


def test_a_refused_request_says_in_openais_form_what_is_wrong(
    endpoint: Endpoint,
) -> None:
    with connected(endpoint) as client:
        client.sendall(AMBIGUOUS["both lengths"])
        head, _, body = received(client).partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "both Content-Length and Transfer-Encoding" in error["message"]


def test_a_request_that_is_broken_after_its_answer_ends_the_connection_without_a_word_more(
    endpoint: Endpoint,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    early = POST.replace(b"/v1/chat/completions", b"/v1/nothing") + CHUNKED + b"\r\n"
    with connected(endpoint) as client:
        client.sendall(early)
        answer = client.recv(65_536)
        client.sendall(b"no chunk\r\n")
        assert statuses(answer + received(client)) == [404]
    assert "Traceback" not in caplog.text + capfd.readouterr().err


@pytest.mark.parametrize("coding", [CHUNKED, b"Transfer-Encoding: Chunked\r\n"])
def test_chunks_with_extensions_and_trailers_within_bounds_are_read(
    endpoint: Endpoint, coding: bytes
) -> None:
    chunks = (
        b"".join(b"1 ;a=b\r\n%c\r\n".replace(b" ", b"") % byte for byte in BODY)
        + b"000\r\nX: a\r\nY: b\r\n\r\n"
    )
    assert after(
        endpoint, POST + b"Connection: close\r\n" + coding + b"\r\n", chunks
    ) == [200]


def half_closed(endpoint: Endpoint, *requests: bytes) -> bytes:
    """What comes for a client that says at once that it will send no more."""
    with connected(endpoint) as client:
        client.sendall(b"".join(requests))
        client.shutdown(socket.SHUT_WR)
        return received(client)


def completion(version: bytes = b"1.1", **fields: object) -> bytes:
    body = json.dumps({**json.loads(BODY), **fields}).encode()
    return (
        POST.replace(b"1.1", version) + b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_client_that_sends_no_more_gets_its_answer(
    endpoint: Endpoint, version: bytes
) -> None:
    answers = half_closed(endpoint, completion(version))
    assert statuses(answers) == [200]
    assert b'"finish_reason":"length"' in answers
    assert (b"100 Continue" in answers) is (version == b"1.1")


def test_a_client_that_sends_no_more_gets_its_stream(endpoint: Endpoint) -> None:
    answers = half_closed(endpoint, completion(stream=True, max_tokens=30))
    assert statuses(answers) == [200]
    assert b"data: [DONE]\n\n" in answers


def test_a_client_that_sends_no_more_gets_all_the_answers_that_it_asked_for(
    endpoint: Endpoint,
) -> None:
    assert statuses(
        half_closed(endpoint, completion(), GET + b"\r\n", completion(stream=True))
    ) == [200, 200, 200]


@pytest.mark.parametrize(
    "sent", [b"", GET, completion()[:-3]], ids=["nothing", "half a head", "half a body"]
)
def test_a_client_that_sends_no_more_of_half_a_request_is_let_go(
    endpoint: Endpoint, sent: bytes
) -> None:
    assert half_closed(endpoint, sent) == b""


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200),
        (b"LocalHost:1", 200),
        (b"127.0.0.1", 200),
        (b"127.0.0.1:80", 200),
        (b"[::1]:80", 200),
        (b"models.example", 200),
        (b"models.example:443", 200),
        (b"192.0.2.7", 200),
        (b"evil.example", 421),
        (b"localhost.evil.example", 421),
        (b"localhost, evil.example", 421),
        (b"evil.example@localhost", 421),
        (b"localhost:x", 421),
        (b"localhost:80:80", 421),
        (b"0.0.0.0", 421),
        (b"192.0.2.1", 421),
        (b"[::2]", 421),
        (b"[::1", 421),
        (b"::1", 421),
        (b"127.1", 421),
        (b"", 421),
        (b"\xff", 421),
        (b"http://localhost", 421),
    ],
)
def test_only_names_of_this_server_are_answered(
    named: Endpoint, host: bytes, status: int
) -> None:
    for target in (b"/healthz", b"/v1/models", b"/v1/nothing"):
        found = after(
            named,
            b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"
            % (target, host),
        )
        assert found == [404 if (status, target) == (200, b"/v1/nothing") else status]


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost/healthz", b"localhost", 200),
        (b"http://evil.example/healthz", b"localhost", 421),
        (b"http://localhost/healthz", b"evil.example", 421),
        (b"http://localhost@evil.example/healthz", b"localhost", 421),
        (b"http:///healthz", b"localhost", 421),
        (b"HTTPS://evil.example", b"localhost", 421),
    ],
)
def test_a_whole_url_names_a_host_as_well(
    endpoint: Endpoint, target: bytes, host: bytes, status: int
) -> None:
    assert after(
        endpoint,
        b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (target, host),
    ) == [status]


def test_a_request_without_a_host_is_refused(endpoint: Endpoint) -> None:
    assert after(endpoint, b"GET /healthz HTTP/1.0\r\n\r\n") == [400]


def test_a_name_that_is_not_answered_says_how_to_allow_it(endpoint: Endpoint) -> None:
    refused = httpx.get(
        f"{endpoint.url}/healthz",
        headers={"host": "models.example"},
        timeout=SECONDS_AT_MOST,
    )
    assert "ASSAY_HOST_NAMES" in refused.json()["error"]["message"]


@pytest.fixture(scope="module")
def named(engine: Engine) -> Iterator[Endpoint]:
    """An endpoint that has a name of its own as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOST_NAMES", "Models.example, 192.0.2.7")
        with running(engine) as endpoint:
            # Read when it started: an endpoint that starts later has no name of its own.
            patch.undo()
            yield endpoint


@pytest.mark.parametrize(
    "names", ["http://models.example", "models.example:80", "*", "a b/c"]
)
def test_what_is_no_name_is_not_configured(
    names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_HOST_NAMES", names)
    with pytest.raises(ServingError, match="no host name"):
        configured_names()


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        (["application/json"], 200),
        (["Application/JSON; charset=utf-8"], 200),
        (["application/vnd.api+json"], 200),
        ([], 415),
        ([""], 415),
        (["text/plain"], 415),
        (["text/plain; application/json"], 415),
        (["application/x-www-form-urlencoded"], 415),
        (["multipart/form-data; boundary=application/json"], 415),
        (["application/jsonp"], 415),
        (["text/json"], 415),
        (["application/json, text/plain"], 415),
        (["application/json", "text/plain"], 415),
    ],
)
def test_a_body_is_read_only_as_json(
    endpoint: Endpoint, kinds: list[str], status: int
) -> None:
    headers = [("content-type", kind) for kind in kinds]
    response = httpx.post(
        f"{endpoint.url}/v1/chat/completions",
        content=BODY,
        headers=headers,
        timeout=SECONDS_AT_MOST,
    )
    assert response.status_code == status
    assert status == 200 or "curl: -H" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/healthz"])
def test_no_other_page_is_given_permission(endpoint: Endpoint, path: str) -> None:
    asks = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for method in ("OPTIONS", "GET"):
        response = httpx.request(
            method, endpoint.url + path, headers=asks, timeout=SECONDS_AT_MOST
        )
        assert method == "GET" or response.status_code == 405
        assert not [
            name for name in response.headers if name.startswith("access-control")
        ]


@pytest.mark.parametrize(
    "path",
    ["/v1/models", "/v1/models/tiny", "/healthz", "/readyz", "/v1/chat/completions"],
)
def test_a_slash_at_the_end_changes_nothing(endpoint: Endpoint, path: str) -> None:
    def answer(path: str) -> tuple[int, bytes]:
        is_chat = path.startswith("/v1/chat")
        response = httpx.request(
            "POST" if is_chat else "GET",
            endpoint.url + path,
            json=json.loads(BODY),
            timeout=SECONDS_AT_MOST,
        )
        return response.status_code, b"" if is_chat else response.content

    assert answer(path + "/") == answer(path)
    assert answer(path)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["//", "/v1/models//", "/v1/models/tiny%2F", "/v1/nothing/", "//evil.example/"],
)
def test_nobody_is_sent_to_another_address(endpoint: Endpoint, path: str) -> None:
    response = httpx.get(endpoint.url + path, timeout=SECONDS_AT_MOST)
    assert response.status_code == 404
    assert "location" not in response.headers


def broken(request: bytes, draw: random.Random) -> bytes:
    """The request with some of its bytes changed, lost, doubled, or put in."""
    content = bytearray(request)
    for _ in range(draw.randint(1, 4)):
        place, length = draw.randrange(len(content)), draw.choice((1, 1, 2, 8))
        piece = draw.choice(
            (
                b"",
                b"\r\n",
                b"\n",
                b"\x00",
                b" ",
                b":",
                b"\xff",
                b"%",
                b"\r\n ",
                bytes([draw.randrange(256)]),
                b"9" * 30,
            )
        )
        content[place : place + length] = (
            piece if draw.random() < 0.7 else content[place : place + length] * 2
        )
    return bytes(content)


def test_whatever_is_sent_nothing_breaks_and_others_are_served(
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(serving.connections, "_SECONDS_TO_HEAR", 0.01)
    draw = random.Random(7)
    whole = [
        GET + b"\r\n",
        completion(),
        completion(stream=True),
        POST + CHUNKED + b"\r\n" + CHUNKS,
        *AMBIGUOUS.values(),
    ]
    whole += [
        method + GET[3:] + b"\r\n"
        for method in (b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"DELETE", b"!")
    ]
    whole += [
        GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        GET + b"Expect: 100-continue\r\n\r\n",
    ]
    whole += [
        b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ]
    whole += [b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"]
    caplog.set_level(logging.ERROR)
    found = []
    for number in range(250):
        request = (
            whole[number] if number < len(whole) else broken(draw.choice(whole), draw)
        )
        answers = half_closed(endpoint, request)
        found += [(status, request) for status in statuses(answers)]
    assert [each for each in found if each[0] >= 500] == []
    assert {status for status, _ in found} >= {200, 400, 404, 405, 421}
    assert caplog.text == ""
    assert "Traceback" not in capfd.readouterr().err
    assert statuses(half_closed(endpoint, completion())) == [200]
