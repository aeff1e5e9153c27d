"""What is said of a call to MLflow that a login stands in the way of, and how soon."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from core.errors import RegistryError
from registry.mlflow.store import Store

SETTINGS = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)
PLAIN_401 = "You are not authenticated. Please see https://www.mlflow.org/docs/latest/auth/index.html"
JSON_401 = json.dumps({"error_code": "UNAUTHENTICATED", "message": "who are you"})
JSON_403 = json.dumps({"error_code": "PERMISSION_DENIED", "message": "not yours"})


@contextmanager
def answering(status: int, body: str) -> Iterator[tuple[str, list[str]]]:
    """A server that says only that; its address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in zip(SETTINGS, ("kim", "wrong-pa55word", ""), strict=True):
        monkeypatch.setenv(name, text)


@pytest.mark.parametrize("body", [PLAIN_401, JSON_401])
def test_a_login_that_mlflow_does_not_know_is_said_at_once_with_the_settings_names(
    tmp_path: Path, body: str
) -> None:
    with answering(401, body) as (url, asked), pytest.raises(RegistryError) as told:
        Store(url, tmp_path).runs.find("0" * 64)
    said = str(told.value)
    assert len(asked) == 1
    assert "does not know this login (401, as 'kim')" in said
    assert all(name in said for name in SETTINGS)
    assert "wrong-pa55word" not in said


@pytest.mark.parametrize("body", ["Permission denied", JSON_403])
def test_a_right_that_is_missing_is_said_at_once_with_the_settings_names(
    tmp_path: Path, body: str
) -> None:
    with (
        answering(403, body) as (url, asked),
        pytest.raises(
            RegistryError, match=r"does not allow that as 'kim' \(403"
        ) as told,
    ):
        Store(url, tmp_path).runs.find("0" * 64)
    assert len(asked) == 1
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in str(told.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_version_that_one_may_not_see_is_not_taken_for_one_that_is_not_there(
    tmp_path: Path, status: int
) -> None:
    with (
        answering(status, "no") as (url, asked),
        pytest.raises(RegistryError, match=str(status)),
    ):
        Store(url, tmp_path).known("letters", "1")
    assert len(asked) == 1


def test_without_a_login_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name)
    with (
        answering(401, PLAIN_401) as (url, _),
        pytest.raises(RegistryError, match="401, without a login"),
    ):
        Store(url, tmp_path).holder("letters", "champion")


def test_a_server_that_fails_is_still_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        answering(500, "broken") as (url, asked),
        pytest.raises(RegistryError, match="in 5 attempts"),
    ):
        Store(url, tmp_path).holders("champion")
    assert len(asked) == 5
