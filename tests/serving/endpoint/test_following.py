"""The endpoint makes what answers match the ledger, without losing a request.

It says what it does not obey. Most tests use one endpoint, one after the other and in any order:
each leaves version 1 with all the traffic.
"""

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from core.errors import ServingError
from core.files import write_text
from registry.ledger.ledger import open_ledger
from registry.release.known_answers import (
    KnownAnswer,
    read_known_answers,
    write_known_answers,
)
from serving.client import endpoint_client
from serving.endpoint.admin_address import admin_address_file
from serving.endpoint.engine_record import EngineRecord, engines_folder
from serving.endpoint.limits import Limits
from tests.support.endpoint_system import (
    MODEL,
    QUESTION,
    AllowedFingerprints,
    Home,
    Load,
    Running,
    command,
    endpoint,
    events,
    record_of,
    without_record,
)
from tests.support.processes import refusal_of, words_of
from tests.support.waiting import SECONDS_AT_MOST


@pytest.fixture(scope="module")
def running(shared: Home) -> Iterator[Running]:
    """Version 1 is released."""
    with endpoint(shared) as running:
        assert "nothing is released yet" in running.ready
        assert running.ask().status_code == 404
        assert (
            "assay promote"
            in httpx.get(f"{running.url}/readyz", timeout=SECONDS_AT_MOST).json()[
                "error"
            ]["message"]
        )
        shared.release("1")
        yield running


@pytest.fixture
def first(shared: Home) -> int:
    """The generation at which version 1's release began."""
    current = shared.ledger_state.model(MODEL).current
    assert current is not None
    assert current.release.version == "1"
    return current.begun


def test_what_is_released_answers_and_says_what_it_is(
    running: Running, shared: Home
) -> None:
    response = running.ask()
    assert response.headers["x-assay-release"] == "1"
    assert (
        response.headers["x-assay-fingerprint"]
        == response.json()["system_fingerprint"]
        == shared.specs["1"].fingerprint
    )
    assert (
        httpx.get(f"{running.url}/readyz", timeout=SECONDS_AT_MOST).status_code == 200
    )


def test_the_process_that_answers_clients_loads_no_weights_itself(
    running: Running,
) -> None:
    running.ask()
    assert not [
        each.path
        for each in psutil.Process(running.process.pid).memory_maps()
        if "torch" in each.path
    ]


def test_the_base_answers_under_its_own_name_by_the_same_engine(
    running: Running, shared: Home
) -> None:
    response = running.ask("tiny")
    assert response.headers["x-assay-release"] == "base"
    assert response.json()["model"] == "tiny"
    assert (
        response.headers["x-assay-fingerprint"]
        == shared.specs["1"].with_adapter(None).fingerprint
    )
    assert len(running.engines()) == 1


def test_the_models_that_answer_are_listed(running: Running, shared: Home) -> None:
    cards = {
        card.id: card.model_dump()["system_fingerprint"]
        for card in running.client.models.list()
    }
    assert cards == {
        MODEL: shared.specs["1"].fingerprint,
        "tiny": shared.specs["1"].with_adapter(None).fingerprint,
    }
    assert running.client.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"model":"nothing","messages":[]}', 404, "assay promote"),
        (b'{"model":"../../etc/passwd","messages":[]}', 400, "not a path"),
        (b'{"messages":[]}', 400, "model"),
        (b"not json", 400, "not valid JSON"),
        (b"[" * 100_000, 400, "not valid JSON"),
        (
            b'{"model":"letters-tiny","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
            400,
            "temperature is NaN",
        ),
        (
            b'{"model":"letters-tiny","messages":[{"role":"user","content":"x"}],"logit_bias":{"5":1}}',
            400,
            "logit_bias",
        ),
        (b" " * 1_100_000, 413, "over 1000000 bytes"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_request_that_is_not_served_is_told_why(
    running: Running, body: bytes, status: int, words: str
) -> None:
    response = httpx.post(
        f"{running.url}/v1/chat/completions",
        content=body,
        headers={"content-type": "application/json"},
        timeout=SECONDS_AT_MOST,
    )
    assert response.status_code == status
    assert words in response.json()["error"]["message"]


def test_a_stream_arrives_as_the_engine_sends_it(running: Running) -> None:
    seen = events(running.ask(stream=True, max_tokens=5).text)
    text = "".join(
        str(choice["delta"].get("content", ""))
        for event in seen
        for choice in event["choices"]  # type: ignore[attr-defined]
    )
    assert text == running.ask(max_tokens=5).json()["choices"][0]["message"]["content"]
    assert list(running.stream(4))[-1].choices[0].finish_reason


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_sends_no_more_still_gets_its_answer(
    running: Running, stream: bool
) -> None:
    body = json.dumps(
        {"model": MODEL, "messages": QUESTION, "max_tokens": 30, "stream": stream}
    ).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
        b"application/json\r\n"
    )
    with socket.create_connection(
        ("127.0.0.1", port_of(running.url)), timeout=SECONDS_AT_MOST
    ) as client:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert b"HTTP/1.1 200" in answer
    assert b"x-assay-release: 1" in answer
    assert (b"[DONE]" if stream else b'"usage"') in answer


def test_every_door_answers_to_its_own_names_alone(
    running: Running, shared: Home
) -> None:
    admin_address = shared.client.admin_address()
    # Rightly asked in all else: what is refused is the name.
    ports = {
        "/v1/models": (port_of(running.url), *engine_ports(running)),
        "/state": (port_of(admin_address.url),),
    }
    token = {"authorization": f"Bearer {admin_address.token}"}
    for path, several in ports.items():
        for port in several:
            for host, refused in (("evil.example", True), (f"localhost:{port}", False)):
                response = httpx.get(
                    f"http://127.0.0.1:{port}{path}",
                    headers={**token, "host": host},
                    timeout=SECONDS_AT_MOST,
                )
                assert (response.status_code == 421) is refused
                assert not [
                    name
                    for name in response.headers
                    if name.startswith("access-control")
                ]


def test_a_body_that_does_not_say_that_it_is_json_is_not_read(running: Running) -> None:
    body = json.dumps({"model": MODEL, "messages": QUESTION, "max_tokens": 1}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        response = httpx.post(
            f"{running.url}/v1/chat/completions",
            content=body,
            headers={"content-type": kind},
            timeout=SECONDS_AT_MOST,
        )
        assert response.status_code == 415
        assert "Content-Type: application/json" in response.json()["error"]["message"]


def test_a_slash_at_the_end_is_answered_and_sends_nobody_elsewhere(
    running: Running,
) -> None:
    for path in ("/v1/models", f"/v1/models/{MODEL}", "/readyz"):
        assert (
            httpx.get(f"{running.url}{path}/", timeout=SECONDS_AT_MOST).content
            == httpx.get(running.url + path, timeout=SECONDS_AT_MOST).content
        )
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 1}
    assert (
        httpx.post(
            f"{running.url}/v1/chat/completions/", json=body, timeout=SECONDS_AT_MOST
        ).status_code
        == 200
    )


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def engine_ports(running: Running) -> list[int]:
    found = [
        each.laddr.port
        for engine in running.engines()
        for each in engine.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]
    assert found
    return found


def test_a_client_that_leaves_frees_the_engine(running: Running) -> None:
    [engine] = running.engines()
    before = processor_seconds(engine)
    assert running.ask(max_tokens=400).status_code == 200
    one = processor_seconds(engine) - before
    for _ in range(6):
        with httpx.stream(
            "POST",
            f"{running.url}/v1/chat/completions",
            json={
                "model": MODEL,
                "messages": QUESTION,
                "max_tokens": 400,
                "stream": True,
            },
        ) as response:
            next(response.iter_lines())
    assert running.ask(max_tokens=1).status_code == 200
    assert processor_seconds(engine) - before < 4 * one, (
        "six more answers were made to their end for nobody"
    )


def processor_seconds(engine: psutil.Process) -> float:
    """What it has worked so far, however long it was kept from it."""
    times = engine.cpu_times()
    return times.user + times.system


@pytest.mark.ci
def test_releases_and_rollbacks_under_load_lose_nothing_and_answer_only_what_the_ledger_allows(
    running: Running, shared: Home, first: int
) -> None:
    one, two, base = (
        shared.specs["1"],
        shared.specs["2"],
        shared.specs["1"].with_adapter(None),
    )
    allowed = AllowedFingerprints([(0.0, frozenset({one.fingerprint}))])

    def change(fingerprint: str, write: Callable[[], object]) -> None:
        with allowed.changing_to(fingerprint):
            write()
            state = shared.client.ring()
        assert state.routes[MODEL].fingerprint == fingerprint
        load.wait_for_answer_of(fingerprint)

    with Load(running.url).running() as load:
        begun = shared.begin("2")
        shared.wait(
            lambda state: any(
                engine.begun == begun and engine.state == "ready"
                for engine in state.engines
            )
        )
        change(two.fingerprint, lambda: shared.switch(begun))
        stream = running.stream(400)
        opened = next(iter(stream))
        change(one.fingerprint, lambda: shared.roll_back(first))
        change(base.fingerprint, shared.serve_base)
        change(one.fingerprint, lambda: shared.roll_back(first))
        change(base.fingerprint, shared.serve_base)
        change(one.fingerprint, lambda: shared.roll_back(first))
        *_, last = list(stream)
    assert load.failures == []
    assert len(load.answers) > 50
    assert [answer for answer in load.answers if not allowed.holds(answer)] == []
    assert {answer.fingerprint for answer in load.answers} == {
        one.fingerprint,
        two.fingerprint,
        base.fingerprint,
    }
    assert (opened.system_fingerprint, last.choices[0].finish_reason) == (
        two.fingerprint,
        "length",
    )
    shared.wait(lambda _: len(running.engines()) == 1)


def test_with_the_base_in_front_a_response_says_that_it_is_the_base(
    running: Running, shared: Home, first: int
) -> None:
    shared.serve_base()
    shared.client.ring()
    whole, stream = running.ask(), running.ask(stream=True)
    shared.roll_back(first)
    shared.client.ring()
    for response, said in ((whole, whole.json()), (stream, events(stream.text)[-1])):
        assert response.headers["x-assay-release"] == "base"
        assert said["model"] == "tiny"
        assert (
            said["system_fingerprint"]
            == response.headers["x-assay-fingerprint"]
            == shared.specs["1"].with_adapter(None).fingerprint
        )


def test_without_a_ring_it_follows_within_a_timer_period(
    running: Running, shared: Home, first: int
) -> None:
    shared.serve_base()
    assert (
        shared.wait(lambda state: state.routes[MODEL].serves_base, rings=False).head
        == shared.ledger_state.head
    )
    shared.roll_back(first)
    shared.wait(shared.answers_with("1"), rings=False)


def test_an_older_copy_of_the_ledger_is_refused_and_what_was_known_goes_on(
    running: Running, shared: Home, first: int
) -> None:
    older, newer = shared.path / "older", shared.path / "newer"
    _set_aside(shared, older)
    shared.serve_base()
    shared.roll_back(first)
    head = shared.client.ring().head
    _set_aside(shared, newer)
    _put_back(shared, older)
    # On the older copy somebody goes on as if the newer entries had never been.
    open_ledger(shared.path)
    with without_record(shared):
        shared.serve_base()
    state = shared.client.ring()
    _put_back(shared, newer)
    assert state.head == head
    assert not state.routes[MODEL].serves_base
    assert "cut off or an old copy was put back" in state.alarms[0]
    assert shared.client.ring().alarms == ()


def test_a_ledger_that_is_away_stops_nothing(running: Running, shared: Home) -> None:
    _set_aside(shared, shared.path / "aside")
    for file in shared.path.glob("ledger.db*"):
        file.unlink()
    state = shared.client.ring()
    answered = running.ask().status_code
    _put_back(shared, shared.path / "aside")
    assert answered == 200
    assert "unreachable" in state.alarms[0]
    assert shared.client.ring().alarms == ()


def _forget(package: Path) -> None:
    known = read_known_answers(package / "known_answers.jsonl")
    write_known_answers(
        package / "known_answers.jsonl",
        [
            KnownAnswer(messages=each.messages, text="?", max_tokens=2)
            for each in known[:2]
        ]
        + list(known[2:]),
    )


def test_a_release_that_does_not_answer_as_it_was_scored_gets_no_traffic(
    running: Running, shared: Home
) -> None:
    changed = shared.with_changed("2", _forget)
    begun = changed.begin("2", share=0.75)
    engine = shared.wait(
        lambda state: any(
            each.begun == begun and each.state == "failed" for each in state.engines
        )
    ).engine(begun)
    assert engine is not None
    assert "2 of 4 known answers" in engine.detail
    assert running.ask().headers["x-assay-release"] == "1"
    shared.abort(begun)
    assert shared.client.ring().engine(begun) is None
    shared.wait(lambda _: len(running.engines()) == 1)


def _flip(package: Path) -> None:
    weights = package / "adapter" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Path], None], bool, str]] = {
    "code": (
        lambda package: write_text(package / "adapter" / "hook.py", "import os"),
        True,
        "hook.py",
    ),
    "a flipped bit": (_flip, False, "not what was packed"),
    "no known answers": (
        lambda package: write_text(package / "known_answers.jsonl", ""),
        True,
        "is empty",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_package_that_must_not_be_loaded_is_not(
    running: Running, shared: Home, fault: str
) -> None:
    change, packs, words = FAULTS[fault]
    _is_refused(shared.with_changed("2", change, packs=packs), words)
    assert len(running.engines()) == 1


def test_bytes_that_are_not_those_of_the_ledger_are_not_loaded(
    running: Running, shared: Home
) -> None:
    """A package that is whole in itself, in the place of another one."""
    with _instead_of(shared.package("2"), shared.package("3")):
        _is_refused(shared, "holds other bytes")


def test_a_symbolic_link_in_a_package_is_not_followed(
    running: Running, shared: Home
) -> None:
    (shared.package("2") / "link.json").symlink_to("/etc/passwd")
    try:
        _is_refused(shared, "symbolic link")
    finally:
        (shared.package("2") / "link.json").unlink()


def test_a_stray_file_in_the_package_of_what_serves_is_an_alarm_and_serving_goes_on(
    running: Running, shared: Home
) -> None:
    stray = shared.package("1") / "adapter" / "stray.json"
    stray.write_text("{}")
    try:
        state = shared.wait(lambda state: state.alarms != ())
        assert running.ask().headers["x-assay-release"] == "1"
    finally:
        stray.unlink()
    [alarm] = state.alarms
    assert alarm.startswith(
        f"Version 1 of {MODEL} still serves, but its package is damaged: "
        f"{shared.package('1')} holds other bytes"
    )
    assert (
        shared.wait(lambda state: state.alarms == ()).routes[MODEL].fingerprint
        == shared.specs["1"].fingerprint
    )


def test_a_package_that_was_never_fetched_is_named(
    running: Running, shared: Home
) -> None:
    with _instead_of(shared.package("2"), None):
        _is_refused(shared, "is not in")


def test_the_configuration_that_the_ledger_names_is_the_one_that_was_scored(
    running: Running, shared: Home
) -> None:
    other = shared.specs["2"].model_copy(update={"default_max_tokens": 25})
    _is_refused(
        Home(shared.path, {**shared.specs, "2": other}, shared.digests),
        "default_max_tokens is 24, not 25",
    )


def test_the_door_opens_to_the_token_alone(running: Running, shared: Home) -> None:
    admin_address = shared.client.admin_address()
    for given in (
        b"",
        b"Bearer x",
        f"Bearer {admin_address.token}x".encode(),
        "Bearer é".encode(),
    ):
        headers = {b"authorization": given}
        assert (
            httpx.post(
                f"{admin_address.url}/doorbell",
                headers=headers,
                timeout=SECONDS_AT_MOST,
            ).status_code
            == 401
        )
        assert (
            httpx.get(
                f"{admin_address.url}/state", headers=headers, timeout=SECONDS_AT_MOST
            ).status_code
            == 401
        )
    assert httpx.get(f"{running.url}/state", timeout=SECONDS_AT_MOST).status_code == 404
    assert admin_address_file(shared.path).stat().st_mode & 0o777 == 0o600
    assert admin_address.token not in running.log.read_text()


def test_an_engine_answers_its_endpoint_alone_and_its_token_is_for_nobody_to_read(
    running: Running, shared: Home
) -> None:
    record = record_of(shared, "1")
    for path in (
        "/healthz",
        "/readyz",
        "/v1/models",
        f"/v1/models/{MODEL}",
        "/v1/chat/completions",
        "/nothing",
    ):
        for token in (None, "x", f"{record.token}x", record.token[:-1]):
            assert ask_engine(record, path, token) == 401, (path, token)
    assert ask_engine(record, "/healthz", record.token) == 200
    engine, file = (
        psutil.Process(record.pid),
        engines_folder(shared.path) / f"{record.pid}.json",
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert (
        record.token
        not in f"{words_of(engine)} {engine.environ()} {running.log.read_text()} {running.ready}"
    )


def ask_engine(record: EngineRecord, path: str, token: str | None) -> int:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{record.port}{path}"
    if path.endswith("completions"):
        return httpx.post(
            url,
            headers=headers,
            json={"model": MODEL, "messages": QUESTION},
            timeout=SECONDS_AT_MOST,
        ).status_code
    return httpx.get(url, headers=headers, timeout=SECONDS_AT_MOST).status_code


@pytest.mark.ci
def test_a_second_endpoint_of_a_home_and_a_taken_port_are_said_in_a_line(
    running: Running, shared: Home, home: Home
) -> None:
    assert "runs already" in refusal_of(command(shared.path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port} on 127.0.0.1 is taken" in refusal_of(
            command(home.path, "--port", str(port))
        )


def test_an_endpoint_that_does_not_run_is_said_with_the_next_step(home: Home) -> None:
    with pytest.raises(ServingError, match="assay up"):
        endpoint_client(home.path).ring()


def test_an_engine_that_is_killed_under_load_comes_back_by_itself(
    running: Running, shared: Home
) -> None:
    fingerprint = shared.specs["1"].fingerprint
    with Load(running.url).running() as load:
        load.wait_for_answer_of(fingerprint)
        killed = time.monotonic()
        running.kill_engine_of(shared.package("1"))
        shared.wait(shared.answers_with("1"))
        seconds_away = time.monotonic() - killed
        load.wait_for_answer_of(fingerprint)
    # What had begun to arrive at the moment of the kill ends in an error event; everything else is
    # answered,
    # except where this machine takes longer to load an engine than a request is kept waiting.
    told = (
        ("engine_lost",)
        if seconds_away < Limits().seconds_to_come_back
        else ("engine_lost", "not_ready")
    )
    assert [
        failure
        for failure in load.failures
        if not any(word in failure for word in told)
    ] == []


@pytest.mark.ci
def test_when_all_that_served_is_revoked_the_base_answers_without_a_gap_and_the_adapter_is_unloaded(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        [engine] = running.engines()
        with Load(running.url, threads=2).running() as load:
            load.wait_for_answer_of(home.specs["1"].fingerprint)
            home.revoke("1")
            assert home.client.ring().routes[MODEL].serves_base
            home.wait(lambda _: not engine.is_running() and len(running.engines()) == 1)
            assert "--package" not in running.engines()[0].cmdline()
            assert running.ask().headers["x-assay-release"] == "base"
    assert load.failures == []


def _is_refused(home: Home, words: str) -> None:
    """The release fails with these words, and version 1 goes on."""
    begun = home.begin("2")
    engine = home.wait(
        lambda state: any(
            each.begun == begun and each.state == "failed" for each in state.engines
        )
    ).engine(begun)
    home.abort(begun)
    state = home.client.ring()
    assert engine is not None
    assert words in engine.detail
    assert home.answers_with("1")(state)


@contextmanager
def _instead_of(package: Path, other: Path | None) -> Iterator[None]:
    """Another package, or none, where this one lies."""
    aside = package.with_name("aside")
    package.rename(aside)
    try:
        if other is not None:
            shutil.copytree(other, package)
        yield
    finally:
        shutil.rmtree(package, ignore_errors=True)
        aside.rename(package)


def _set_aside(home: Home, folder: Path) -> None:
    folder.mkdir()
    for file in home.path.glob("ledger.db*"):
        shutil.copy2(file, folder / file.name)


def _put_back(home: Home, folder: Path) -> None:
    for file in home.path.glob("ledger.db*"):
        file.unlink()
    for file in folder.iterdir():
        shutil.copy2(file, home.path / file.name)
