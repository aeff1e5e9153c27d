"""A version is on its way in another installation only where somebody there was asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from core.errors import OperationError, ReleaseError
from operations.sending import Errand, check_admission, check_goes_on
from registry.mlflow.recorded import RELEASE
from registry.mlflow.store import Store

ERRAND = Errand("letters", "4", "prod", "better", seconds=1.0, waits=False)


@contextmanager
def mlflow_that_says(status: int, body: bytes) -> Iterator[str]:
    """The address of a server that answers so, whatever it is asked."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_address[1]}"
        finally:
            listening.shutdown()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b""),
        (401, b""),
        (200, b"<html>"),
        (200, b'{"admission": "assay", "governs": false}'),
        (200, b'{"admission": "assay", "governs": "true"}'),
    ],
)
def test_where_mlflow_there_asks_nobody_no_release_is_said_to_have_begun(
    status: int, body: bytes
) -> None:
    with (
        mlflow_that_says(status, body) as server,
        pytest.raises(ReleaseError, match="has no admission for letters") as said,
    ):
        check_admission(ERRAND, server, "7")
    assert "`assay promote 7 --model letters`" in str(said.value)


def test_where_it_asks_the_way_is_free() -> None:
    body = b'{"admission": "assay", "governs": true}'
    with mlflow_that_says(200, body) as server:
        check_admission(ERRAND, server, "7")


def test_a_server_that_is_away_is_none_that_asks() -> None:
    with pytest.raises(OperationError, match=r"127\.0\.0\.1:9"):
        check_admission(ERRAND, "http://127.0.0.1:9", "7")


def test_a_release_that_was_stopped_there_is_not_waited_for(
    tmp_path: Path, empty_mlflow: Path
) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_mlflow.read_bytes())
    store = Store(f"sqlite:///{database}", locks=tmp_path / "locks")
    client = store.runs._mlflow.client
    client.create_registered_model("letters")
    for number in ("1", "2"):
        client.create_model_version("letters", f"s3://somewhere/{number}")
    with pytest.raises(ReleaseError, match="does not release version 2 of letters"):
        check_goes_on(ERRAND, store, "2")
    client.set_registered_model_alias("letters", RELEASE, "2")
    check_goes_on(ERRAND, store, "2")
    client.set_registered_model_alias("letters", RELEASE, "1")
    with pytest.raises(ReleaseError, match="does not release version 2 of letters"):
        check_goes_on(ERRAND, store, "2")
