"""To whom the page's server answers, and what `/` of the endpoint says of it."""

import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from core.private_file import write_private
from serving.endpoint.front_page import add_front_page
from serving.playground.address import (
    PlaygroundAddress,
    address_file,
    publish_address,
    running_playground,
    withdraw_address,
)
from serving.playground.server import OwnPagesOnly


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()

    @app.get("/")
    async def page() -> str:
        return "the page"

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    return TestClient(OwnPagesOnly(app, frozenset({"localhost"})), "http://localhost")


def websocket(client: TestClient, **headers: str) -> Any:
    return client.websocket_connect("ws://localhost/socket", headers=headers)


def test_its_own_page_is_answered_and_may_fetch_from_nobody_else(
    client: TestClient,
) -> None:
    answer = client.get("/", headers={"origin": "http://localhost"})
    assert answer.text == '"the page"'
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    with websocket(client, origin="http://localhost") as socket:
        assert socket.receive_text() == "hello"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://localhost.evil.example", "null"]
)
def test_a_page_of_somebody_else_reaches_neither_page_nor_websocket(
    client: TestClient, origin: str
) -> None:
    answer = client.get("/", headers={"origin": origin})
    assert answer.status_code == 403
    with pytest.raises(WebSocketDisconnect), websocket(client, origin=origin):
        pass


def test_it_answers_under_its_own_names_alone(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421
    with pytest.raises(WebSocketDisconnect), websocket(client, host="evil.example"):
        pass


@pytest.fixture
def endpoint(tmp_path: Path) -> TestClient:
    app = FastAPI()
    add_front_page(app, tmp_path)
    return TestClient(app, "http://models.example:8080", follow_redirects=False)


def test_the_endpoint_leads_a_browser_to_the_page_that_runs(
    endpoint: TestClient, tmp_path: Path
) -> None:
    publish_address(tmp_path, 8081, is_local=False)
    answer = endpoint.get("/?x=1")
    assert answer.status_code == 307
    assert answer.headers["location"] == "http://models.example:8081/"
    withdraw_address(tmp_path)
    assert "assay playground" in endpoint.get("/").text


def test_who_asks_from_elsewhere_is_led_to_no_page_of_this_machine_alone(
    endpoint: TestClient, tmp_path: Path
) -> None:
    publish_address(tmp_path, 8081, is_local=True)
    assert "assay playground" in endpoint.get("/").text
    for name in ("localhost", "127.0.0.1", "[::1]"):
        answer = endpoint.get("/", headers={"host": f"{name}:8080"})
        assert answer.headers["location"] == f"http://{name}:8081/"


def test_a_page_that_ends_leaves_the_address_of_one_that_began_after_it(
    tmp_path: Path,
) -> None:
    publish_address(tmp_path, 8081, is_local=True)
    mine = PlaygroundAddress.read(address_file(tmp_path))
    later = mine.model_copy(update={"pid": os.getppid(), "port": 8082})
    write_private(address_file(tmp_path), later.model_dump_json())
    withdraw_address(tmp_path)
    assert PlaygroundAddress.read(address_file(tmp_path)) == later


def test_a_page_that_was_killed_is_led_to_by_nobody(
    endpoint: TestClient, tmp_path: Path
) -> None:
    started = psutil.Process().create_time()
    earlier = PlaygroundAddress(
        port=8081, is_local=False, pid=os.getpid(), started=started - 60
    )
    write_private(address_file(tmp_path), earlier.model_dump_json())
    assert running_playground(tmp_path) is None
    assert endpoint.get("/").status_code == 200
    write_private(address_file(tmp_path), "{")
    assert endpoint.get("/").status_code == 200
