"""Servers that do not answer in HTTP, each said in one sentence and within the time."""

import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import OperationError
from core.team_server import TeamServer, within
from tests.support.impostors import Reply, answering, silent


def server_at(address: str, *, verify: bool | str = True) -> TeamServer:
    return TeamServer(
        name="Prefect",
        setting="PREFECT_API_URL",
        address=address,
        login_settings="PREFECT_API_KEY",
        authority_setting="PREFECT_API_SSL_CERT_FILE",
        verify=verify,
    )


def said_of(server: TeamServer) -> str:
    with pytest.raises(OperationError) as told:
        within(1.5, server.place, lambda: server.ask("/flows/filter"))
    return str(told.value)


@pytest.mark.parametrize("drop", [b"", b"H", b"HTTP/1.1 200 OK\r\nX: "])
def test_one_that_says_nothing_or_never_ends_costs_the_time_alone(drop: bytes) -> None:
    began = time.monotonic()
    with silent(drop) as port:
        said = said_of(server_at(f"http://127.0.0.1:{port}"))
    assert "did not answer within 1.5 s" in said
    assert time.monotonic() - began < 30


def test_one_that_speaks_another_language_is_said_so() -> None:
    with silent(b"220 mail.example ESMTP\r\n") as port:
        said = said_of(server_at(f"http://127.0.0.1:{port}"))
    assert "does not answer in HTTP" in said


def test_a_closed_port_is_told_from_an_unknown_host() -> None:
    closed = said_of(server_at("http://127.0.0.1:9"))
    assert "takes no connection. Start it, or correct PREFECT_API_URL." in closed
    unknown = said_of(server_at("http://no-such-host.invalid"))
    assert "The host of Prefect at http://no-such-host.invalid is unknown." in unknown


def test_tls_where_there_is_none_is_said_so() -> None:
    with answering(lambda _: Reply(200)) as (url, _):
        said = said_of(server_at(url.replace("http:", "https:")))
    assert "does not speak TLS as it should" in said
    assert "Write http:// into PREFECT_API_URL" in said


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody else signed, with its key, in one file."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def over_tls(certificate: Path) -> Iterator[str]:
    """The address of a server with that certificate."""
    from http.server import HTTPServer, SimpleHTTPRequestHandler

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_a_certificate_that_nobody_vouches_for_is_named_with_its_setting(
    over_tls: str, certificate: Path
) -> None:
    said = said_of(server_at(over_tls))
    assert "a certificate that this machine does not accept (self-signed" in said
    assert "PREFECT_API_SSL_CERT_FILE" in said
    for accepted in (str(certificate), False):
        assert server_at(over_tls, verify=accepted).ask("/").status == 204


def test_an_error_within_the_time_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        within(30, "it", lambda: 1 // 0)
    assert within(30, "it", lambda: "done") == "done"
