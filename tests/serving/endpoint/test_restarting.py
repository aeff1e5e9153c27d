"""The endpoint is killed, started again and cut off from everything.

What was verified last goes on, and nothing else.
"""

import http.client
import json
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from registry.mlflow.package_folder import put_aside
from registry.release.following import EndpointState
from serving.endpoint.engine_record import engines_folder, started_at
from serving.endpoint.memory import memory_file
from tests.support.endpoint_system import (
    MODEL,
    QUESTION,
    Home,
    Running,
    endpoint,
    events,
)
from tests.support.waiting import SECONDS_AT_MOST, wait_until


@pytest.fixture(scope="module")
def pair(shared: Home) -> Home:
    """Versions 1 and 2 were released, one after the other."""
    release_both(shared)
    return shared


@pytest.fixture(scope="module")
def pair_running(pair: Home) -> Iterator[Running]:
    """An engine that is let go has half a second for its last answers."""
    with endpoint(pair, "--seconds-to-drain", "0.5") as running:
        yield running


@pytest.fixture
def running(pair: Home, pair_running: Running) -> Running:
    """Version 2 answers and its predecessor is loaded: each test leaves it so, or comes to it."""
    pair.wait(both_are_ready)
    pair.wait(pair.answers_with("2"))
    return pair_running


def release_both(home: Home) -> None:
    for version in ("1", "2"):
        home.switch(home.begin(version))


def both_are_ready(state: EndpointState) -> bool:
    return [engine.state for engine in state.engines] == ["ready", "ready"]


def asked(running: Running, max_tokens: int) -> socket.socket:
    """A connection on which a stream was asked for, and of which nothing was read."""
    body = json.dumps(
        {"model": MODEL, "messages": QUESTION, "max_tokens": max_tokens, "stream": True}
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
        "application/json\r\n"
    )
    head += f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    client = socket.create_connection(
        ("127.0.0.1", int(running.url.rpartition(":")[2])), timeout=SECONDS_AT_MOST
    )
    client.sendall(head.encode() + body)
    return client


def received(client: socket.socket, seconds: float) -> bytes:
    """All that comes until the other side ends it, or is silent for that long."""
    client.settimeout(seconds)
    pieces = []
    with suppress(TimeoutError):
        while piece := client.recv(65_536):
            pieces.append(piece)
    return b"".join(pieces)


def stopped_in_a_stream(
    running: Running, engine: psutil.Process
) -> tuple[socket.socket, bytes]:
    """A stream in whose midst its engine was stopped, and what had come of it.

    Another one where the answer was quicker.
    """
    while True:
        client = asked(running, 450)
        seen = client.recv(65_536)
        engine.send_signal(signal.SIGSTOP)
        seen += received(client, seconds=1)
        if b"[DONE]" not in seen:
            return client, seen
        client.close()
        engine.send_signal(signal.SIGCONT)


def test_the_release_answers_and_a_request_whose_engine_dies_goes_to_its_predecessor(
    running: Running, pair: Home
) -> None:
    assert f"{MODEL} version 2 ({pair.specs['2'].fingerprint})" in running.ready
    assert running.ask().headers["x-assay-release"] == "2"
    engine = running.engine_of(pair.package("2"))
    engine.send_signal(signal.SIGSTOP)
    with asked(running, 4) as client:
        time.sleep(
            0.5
        )  # it reaches the engine; where that takes longer, the engine is gone when it would
        engine.kill()
        answer = http.client.HTTPResponse(client, method="POST")
        answer.begin()
        seen = events(answer.read().decode())
    assert {each["system_fingerprint"] for each in seen} == {
        pair.specs["1"].fingerprint
    }
    pair.wait(pair.answers_with("2"))


def test_a_stream_that_outlives_the_time_to_drain_ends_in_an_error_event(
    running: Running, pair: Home
) -> None:
    model = pair.ledger_state.model(MODEL)
    served, predecessor = model.current, model.before
    assert served is not None
    assert predecessor is not None
    engine = running.engine_of(pair.package("2"))
    client, seen = stopped_in_a_stream(running, engine)
    with client:
        pair.roll_back(predecessor.begun)
        assert pair.answers_with("1")(pair.client.ring())
        seen += received(client, seconds=60)
    assert b'"error"' in seen.rpartition(b"data: {")[2]
    assert running.ask().headers["x-assay-release"] == "1"
    wait_until(lambda: not _is_there(engine))
    pair.roll_back(served.begun)


@pytest.mark.ci
def test_killed_and_without_ledger_the_next_one_takes_over_the_engines_and_leaves_none(
    home: Home,
) -> None:
    release_both(home)
    with endpoint(home) as running:
        home.wait(both_are_ready)
        engines = {engine.pid for engine in running.engines()}
        before = running.ask().headers["x-assay-fingerprint"]
        running.kill()
    for file in home.path.glob("ledger.db*"):
        file.rename(home.path / f"away-{file.name}")
    with endpoint(home) as again:
        response = again.ask()
        assert again.ask("tiny").status_code == 200
        assert {engine.pid for engine in again.engines()} == engines
        state = home.client.state()
        assert again.end() == 0
    assert response.headers["x-assay-fingerprint"] == before
    assert "unreachable" in state.alarms[0]
    assert not any(started_at(pid) for pid in engines)
    assert not list(engines_folder(home.path).iterdir())
    assert not (home.path / "endpoint" / "admin.json").exists()


@pytest.mark.ci
def test_a_release_whose_bytes_were_changed_is_served_by_its_predecessor_until_they_are_repaired(
    home: Home,
) -> None:
    for version in ("1", "2"):
        home.switch(home.begin(version))
    whole = shutil.copytree(home.package("2"), home.path / "whole")
    _damage(home.package("2"))
    with endpoint(home) as running:
        state = home.wait(home.answers_with("1"))
        response = running.ask()
        assert len(running.engines()) == 1
        put_aside(home.package("2"))
        whole.rename(home.package("2"))
        assert home.wait(home.answers_with("2")).alarms == ()
    assert response.headers["x-assay-release"] == "1"
    assert any("holds other bytes" in alarm for alarm in state.alarms)
    assert any(f"{MODEL} is answered by version 1" in alarm for alarm in state.alarms)


def test_where_nothing_can_be_verified_nothing_is_served(home: Home) -> None:
    home.switch(home.begin("1"))
    _damage(home.package("1"))
    with endpoint(home) as running:
        response = running.ask()
        assert running.engines() == []
        assert "nothing of what is released answers yet" in running.ready
    assert response.status_code == 503
    assert response.headers["retry-after"]


def test_a_release_that_does_not_get_ready_in_time_has_failed_and_its_process_is_ended(
    home: Home,
) -> None:
    with endpoint(home, "--seconds-to-load", "1") as running:
        begun = home.begin("1")
        engine = home.wait(
            lambda state: any(engine.state == "failed" for engine in state.engines)
        ).engine(begun)
        assert running.engines() == []
    assert engine is not None
    assert engine.detail == "it was not ready within 1 s"


@pytest.mark.ci
def test_a_memory_that_was_edited_counts_less_than_the_ledger(home: Home) -> None:
    home.switch(home.begin("1"))
    _damage(home.package("1"))  # nothing is to be loaded for this
    before = home.ledger_state
    edited = before.model(MODEL).model_copy(update={"revoked": frozenset({"9"})})
    before.model_copy(update={"models": {MODEL: edited}}).write(memory_file(home.path))
    with endpoint(home):
        assert any("it was edited" in alarm for alarm in home.client.state().alarms)
        home.revoke("1")
        home.client.ring()
    assert home.ledger_state.model(MODEL).revoked == {"1"}
    assert '"1"' in memory_file(home.path).read_text()
    assert '"9"' not in memory_file(home.path).read_text()


@pytest.mark.ci
def test_a_damaged_memory_is_put_aside_and_said(home: Home) -> None:
    home.abort(home.begin("1"))
    memory_file(home.path).parent.mkdir(parents=True)
    memory_file(home.path).write_text("{")
    with endpoint(home):
        state = home.client.ring()
    assert "was damaged" in state.alarms[0]
    assert state.head == home.ledger_state.head


def _damage(package: Path) -> None:
    template = package / "chat_template.jinja"
    template.write_text(template.read_text() + " ")


def _is_there(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
