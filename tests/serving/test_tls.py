"""A server that speaks TLS, as the endpoint does where it has a certificate."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from core.errors import ServingError
from core.loopback import answers
from serving.listen import TlsFiles, create_server, format_url, open_socket
from serving.own_certificate import own_trust
from serving.playground.api import EndpointApi
from tests.support.certificates import write_certificate
from tests.support.waiting import SECONDS_AT_MOST


@contextmanager
def served(files: TlsFiles) -> Iterator[str]:
    """The URL of a small app behind TLS."""
    app = FastAPI()

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    listener = open_socket("127.0.0.1", 0)
    server = create_server(app, files)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield format_url(listener, "https")
    finally:
        server.should_exit = True
        thread.join(SECONDS_AT_MOST)
        listener.close()


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(*write_certificate(tmp_path))


def test_who_trusts_the_certificate_is_answered_and_nobody_else(
    files: TlsFiles,
) -> None:
    trust = ssl.create_default_context(cafile=str(files.certificate))
    with served(files) as url:
        assert url.startswith("https://127.0.0.1:")
        answer = httpx.get(f"{url}/healthz", verify=trust, timeout=SECONDS_AT_MOST)
        assert answer.json() == {"status": "ok"}
        with pytest.raises(httpx.ConnectError, match="certificate"):
            httpx.get(f"{url}/healthz", timeout=SECONDS_AT_MOST)
        plain = url.replace("https", "http")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{plain}/healthz", timeout=SECONDS_AT_MOST)


def test_a_malformed_request_is_told_so_over_tls_too(files: TlsFiles) -> None:
    trust = ssl.create_default_context(cafile=str(files.certificate))
    with served(files) as url:
        port = int(url.rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port), SECONDS_AT_MOST) as plain,
            trust.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n x: y\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_a_service_that_speaks_tls_is_seen_to_answer(files: TlsFiles) -> None:
    with served(files) as url:
        assert answers(f"{url}/healthz")
        assert not answers(f"{url.replace('https', 'http')}/healthz")


def test_this_machine_trusts_the_endpoints_own_certificate_and_no_other(
    files: TlsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = write_certificate(tmp_path / "other")
    # As others are given it: with those that lead to it.
    chain = tmp_path / "chain.pem"
    chain.write_text(other.read_text() + files.certificate.read_text())
    with served(files) as url:
        for trusted, is_answered in (
            (files.certificate, True),
            (other, False),
            (chain, False),
        ):
            monkeypatch.setenv("ASSAY_TLS_CERTIFICATE", str(trusted))
            trust = own_trust()
            assert trust is not None
            with httpx.Client(verify=trust, trust_env=False) as client:
                if is_answered:
                    assert client.get(f"{url}/healthz").status_code == 200
                else:
                    with pytest.raises(httpx.ConnectError):
                        client.get(f"{url}/healthz")


def test_a_file_without_a_certificate_is_named(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_TLS_CERTIFICATE", str(files.key))
    with pytest.raises(ServingError, match="holds no certificate"):
        EndpointApi("https://127.0.0.1:1/v1")
    # Somebody else's server is known as everywhere.
    EndpointApi("https://models.example/v1")
