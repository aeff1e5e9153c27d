"""Engines outlive an endpoint that is killed.

The next one takes over those that it may, and the others end.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from core.files import digest_of_json
from core.private_file import write_private
from operations.down import end_system
from registry.ledger.keys import create_endpoint_key, endpoint_key_file, seal
from serving.endpoint.engine_record import (
    EngineContents,
    EngineRecord,
    engines_folder,
    read_records,
    started_at,
    write_record,
)
from serving.listen import open_socket
from tests.support.endpoint_system import MODEL, Home, command, endpoint, record_of
from tests.support.processes import start_known
from tests.support.waiting import SECONDS_AT_MOST, wait_until


@pytest.fixture
def pair(home: Home) -> Home:
    """Versions 1 and 2 were released, one after the other."""
    for version in ("1", "2"):
        home.switch(home.begin(version))
    return home


def contents_of(home: Home) -> EngineContents:
    """What an engine of version 1 has loaded."""
    return EngineContents(
        model=MODEL,
        package_sha256=home.digests["1"],
        spec=home.specs["1"],
        with_adapter=True,
    )


def both_ready(home: Home) -> None:
    home.wait(
        lambda state: [engine.state for engine in state.engines] == ["ready", "ready"]
    )


def test_of_the_engines_of_a_killed_endpoint_the_next_takes_over_those_that_the_ledger_still_needs(
    pair: Home,
) -> None:
    with endpoint(pair) as running:
        both_ready(pair)
        one, two = record_of(pair, "1"), record_of(pair, "2")
        running.kill()
    pair.revoke("2")
    with endpoint(pair) as again:
        response = again.ask()
        assert [engine.pid for engine in again.engines() if engine.pid == one.pid] == [
            one.pid
        ]
        wait_until(lambda: not two.is_running())
        assert pair.client.ring().alarms == ()
    assert response.headers["x-assay-release"] == "1"
    assert "was left running and is not needed any more" in again.log.read_text()


@pytest.mark.ci
def test_an_engine_that_loaded_something_else_than_its_record_says_is_not_taken_over(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        record = record_of(home, "1")
        running.kill()
    two = record.loaded.model_copy(
        update={"package_sha256": home.digests["2"], "spec": home.specs["2"]}
    )
    write_record(home.path, record.model_copy(update={"loaded": two}))
    home.switch(home.begin("2"))
    with endpoint(home) as again:
        response = again.ask()
        assert not record.is_running()
    assert response.headers["x-assay-fingerprint"] == home.specs["2"].fingerprint
    assert "is not taken over" in again.log.read_text()


def test_an_engine_without_an_endpoint_ends_by_itself(home: Home) -> None:
    home.switch(home.begin("1"))
    with endpoint(home, "--seconds-without-an-endpoint", "3") as running:
        record = record_of(home, "1")
        assert end_system(home.path) == 0, "an endpoint that runs keeps its engines"
        killed_at = time.monotonic()
        running.kill()
    wait_until(lambda: not record.is_running())
    # It looks for its owner twice a second: its grace may count from one look before the kill.
    assert time.monotonic() - killed_at > 1, "it waits for the next endpoint"
    assert read_records(home.path) == ()


@pytest.mark.ci
def test_an_engine_that_a_killed_endpoint_has_left_is_ended_by_down(home: Home) -> None:
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        record = record_of(home, "1")
        running.kill()
    assert end_system(home.path) == 1
    wait_until(lambda: not record.is_running())


def test_an_engine_that_still_loads_ends_with_its_endpoint(home: Home) -> None:
    home.switch(home.begin("1"))
    process = subprocess.Popen(command(home.path))
    endpoint_process = psutil.Process(process.pid)
    wait_until(lambda: bool(endpoint_process.children()))
    engines = endpoint_process.children()
    process.kill()
    process.wait()
    assert psutil.wait_procs(engines, timeout=SECONDS_AT_MOST)[1] == []


def test_a_record_is_never_taken_for_another_process_that_has_its_number(
    home: Home,
) -> None:
    loaded = contents_of(home)
    with (
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"]
        ) as other,
        open_socket("127.0.0.1", 0) as listener,
    ):
        try:
            there = EngineRecord(
                pid=other.pid,
                started=started_at(other.pid),
                port=listener.getsockname()[1],
                token="x",
                loaded=loaded,
            )
            write_record(home.path, there)
            write_record(home.path, there.model_copy(update={"pid": 1}))
            (engines_folder(home.path) / "2.json").write_text("{")
            assert read_records(home.path) == ()
            assert list(engines_folder(home.path).iterdir()) == []
            assert other.poll() is None
        finally:
            other.kill()


def write_changed(home: Home, record: EngineRecord) -> None:
    """The record as somebody edits it: with a token of theirs under the endpoint's seal."""
    write_record(home.path, record)
    path = engines_folder(home.path) / record.name
    fields = json.loads(path.read_bytes())
    path.write_text(json.dumps({**fields, "token": "theirs"}))


def test_an_engine_that_ends_while_its_record_is_read_is_no_alarm(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    # Those words are what engines are known by.
    words = ["import time; time.sleep(600)", "serving", "--owned"]
    loaded = contents_of(home)
    with start_known([sys.executable, "-c", *words]) as ending:
        try:
            record = EngineRecord(
                pid=ending.pid,
                started=started_at(ending.pid),
                port=1,
                token="x",
                loaded=loaded,
            )
            write_record(home.path, record)
            # It completes its last answers, for which it need not listen.
            assert read_records(home.path) == ()
            said = capsys.readouterr().err
            assert (
                said
                == f"Engine process {ending.pid} listens no more, and is left to end.\n"
            )
            write_changed(home, record)
            assert read_records(home.path) == ()
            assert "ALARM" in capsys.readouterr().err
            write_changed(home, record)
            key = endpoint_key_file(home.path)
            content = key.read_bytes()
            key.unlink()
            # Whoever reads the key waits until somebody writes it.
            os.mkfifo(key, mode=0o600)

            def end_it_meanwhile() -> None:
                with key.open("wb") as read_by:
                    ending.kill()
                    ending.wait()
                    read_by.write(content)

            meanwhile = threading.Thread(target=end_it_meanwhile, daemon=True)
            meanwhile.start()
            assert read_records(home.path) == ()
            meanwhile.join(SECONDS_AT_MOST)
        finally:
            ending.kill()
    assert "ALARM" not in capsys.readouterr().err
    assert list(engines_folder(home.path).iterdir()) == []


def test_a_record_of_another_version_is_no_alarm_and_is_forgotten(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import time; time.sleep(600)", "serving", "--owned"]
    with start_known([sys.executable, "-c", *words]) as engine:
        try:
            record = EngineRecord(
                pid=engine.pid,
                started=started_at(engine.pid),
                port=1,
                token="x",
                loaded=contents_of(home),
                home=str(home.path.resolve()),
            )
            fields = record.model_dump(mode="json", exclude={"seal"})
            # As one had it that knew nothing of processes with several releases.
            del fields["is_shared"]
            digest = digest_of_json({"assay": "engine record", "value": fields})
            sealed = seal(digest, create_endpoint_key(home.path))
            fields["seal"] = sealed.model_dump(mode="json")
            file = engines_folder(home.path) / record.name
            write_private(file, json.dumps(fields))
            assert read_records(home.path) == ()
        finally:
            engine.kill()
    said = capsys.readouterr().err
    assert "another version of Assay" in said
    assert "ALARM" not in said
    assert not file.exists()


@pytest.mark.ci
def test_a_record_that_was_edited_is_not_believed_and_its_port_is_not_asked(
    home: Home,
) -> None:
    """Whoever listens on another port would be asked instead of the engine, and get its token."""
    home.switch(home.begin("1"))
    with endpoint(home) as running:
        record = record_of(home, "1")
        running.kill()
        file = engines_folder(home.path) / f"{record.pid}.json"
        with open_socket("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            file.write_text(record.model_copy(update={"port": port}).model_dump_json())
            with endpoint(home) as again:
                response = again.ask()
                listener.setblocking(False)
                with pytest.raises(BlockingIOError):
                    listener.accept()
    assert response.headers["x-assay-fingerprint"] == home.specs["1"].fingerprint
    assert "is not what the endpoint wrote" in again.log.read_text()


def test_a_record_is_believed_as_the_endpoint_signed_it_alone(home: Home) -> None:
    home.switch(home.begin("1"))
    with endpoint(home):
        record = record_of(home, "1")
        assert record.is_of(home.path)
        for changed in ({"port": 1}, {"token": "x"}, {"seal": None}):
            assert not record.model_copy(update=changed).is_of(home.path)
        with open_socket("127.0.0.1", 0) as listener:
            write_record(
                home.path, record.model_copy(update={"port": listener.getsockname()[1]})
            )
        assert read_records(home.path) == ()


def test_an_endpoint_of_a_copied_home_leaves_the_engines_of_the_original_alone(
    home: Home, tmp_path: Path
) -> None:
    home.switch(home.begin("1"))
    with endpoint(home):
        record = record_of(home, "1")
        copy = tmp_path / "copy" / "home"
        shutil.copytree(home.path, copy)
        assert read_records(copy) == ()
        assert read_records(home.path) == (record,)
        assert record.is_running()
