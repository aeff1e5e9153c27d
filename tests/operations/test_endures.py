"""What `assay up` cannot write, print or start ends nothing of what runs.

What a person must know is told once.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from core.errors import OperationError
from core.locks import up_lock
from core.loopback import answers, ask
from core.notify import notices
from core.project import Project
from core.ready import ready_line
from core.system_record import read_record, record_file
from operations import down
from operations.start_display import StartDisplay
from operations.supervise import watch
from operations.supervise.processes import end_marked
from operations.supervise.service import Service
from operations.supervise.watch import SupervisedService
from operations.system_mark import system_mark
from operations.up import RunningServices, surroundings
from tests.support.running_system import DIES_LATER
from tests.support.waiting import SECONDS_AT_MOST, wait_until

_LASTS = f"print({ready_line('now')!r}, flush=True); import time; time.sleep(600)"
# Accepts whoever comes, and says what no HTTP server says.
_TALKS_NO_HTTP = """
import pathlib, socket, sys
server = socket.create_server(("127.0.0.1", 0))
pathlib.Path(sys.argv[1]).write_text(str(server.getsockname()[1]))
while True:
    client, _ = server.accept()
    client.recv(1000)
    client.sendall(b"220 smtp\\r\\n\\r\\n")
    client.close()
"""
_ANSWERS = """
import http.server, pathlib, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
pathlib.Path(sys.argv[1]).write_text(str(server.server_port))
server.serve_forever()
"""


Begin = Callable[..., RunningServices]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """A system of the services of those names and that code.

    The signals that it takes for itself are given back.
    """
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    project, environment = (
        Project(Path.cwd(), tmp_path),
        {**os.environ, **system_mark(tmp_path).environment, "PYTHONUNBUFFERED": "1"},
    )
    made: list[SupervisedService] = []

    def begun(**services: str) -> RunningServices:
        for name, code in services.items():
            made.append(
                SupervisedService(
                    Service(
                        name,
                        (sys.executable, "-c", code, str(tmp_path / name)),
                        lambda: environment,
                    ),
                    surroundings(project),
                )
            )
        return RunningServices(project, tuple(made), StartDisplay(tmp_path))

    yield begun
    for each in made:
        each.kill()
    end_marked(system_mark(tmp_path))
    for number, handler in before.items():
        signal.signal(number, handler)


def look_until(found: RunningServices, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_AT_MOST
    while not is_so():
        assert time.monotonic() < deadline, [
            (each.state, each.detail) for each in found.services
        ]
        found.look()
        time.sleep(0.05)


def port_of(found: RunningServices, name: str) -> int:
    """Where that service says that it listens."""
    path = found.project.home / name
    look_until(found, lambda: path.is_file() and path.read_text(encoding="utf-8") != "")
    return int(path.read_text(encoding="utf-8"))


def test_a_record_that_cannot_be_written_is_said_once_and_kept_later(
    tmp_path: Path, begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    found = begin(endpoint=_LASTS, thing=_LASTS)
    record_file(tmp_path).mkdir()
    look_until(found, lambda: all(each.state == "ready" for each in found.services))
    endpoint, thing = (each.record().pid for each in found.services)
    assert thing is not None
    os.kill(thing, signal.SIGKILL)
    look_until(
        found,
        lambda: found.services[1].restarts == 1 and found.services[1].state == "ready",
    )
    assert found.services[0].record().pid == endpoint
    assert capsys.readouterr().out.count("services.json cannot be written") == 1
    record_file(tmp_path).rmdir()
    found.look()
    record = read_record(tmp_path)
    assert record is not None
    assert record.services[0].pid == endpoint


@pytest.mark.parametrize("damaged", [None, "", "{"])
def test_a_record_that_is_lost_or_damaged_is_replaced(
    tmp_path: Path, begin: Begin, damaged: str | None
) -> None:
    found = begin(thing=_LASTS)
    look_until(found, lambda: found.services[0].state == "ready")
    record_file(tmp_path).unlink() if damaged is None else record_file(
        tmp_path
    ).write_text(damaged, encoding="utf-8")
    found.look()
    record = read_record(tmp_path)
    assert record is not None
    assert record.services[0].state == "ready"


def test_down_ends_nothing_of_one_that_runs_without_a_record(
    tmp_path: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path))
    monkeypatch.setattr(down, "SECONDS_FOR_A_RECORD", 0.3)
    found = begin(thing=_LASTS)
    look_until(found, lambda: found.services[0].state == "ready")
    record_file(tmp_path).unlink()
    with (
        FileLock(up_lock(tmp_path)),
        pytest.raises(OperationError, match=r"nothing was ended.*fuser .*up\.lock"),
    ):
        down.run_down()
    assert not found.services[0].has_ended()
    ended = down.run_down()
    assert not ended.was_running
    assert ended.orphans > 0


def test_a_closed_terminal_ends_it_unless_nohup_said_otherwise(begin: Begin) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    found = begin()
    signal.raise_signal(signal.SIGHUP)
    assert found.stop.count == 0
    signal.raise_signal(signal.SIGTERM)
    assert found.stop.count == 1
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    found = begin()
    signal.raise_signal(signal.SIGHUP)
    assert found.stop.count == 1


def test_a_service_that_is_given_up_is_told_once(
    tmp_path: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_NOTIFY", raising=False)
    monkeypatch.setattr(watch, "LONGEST_WAIT", 0.05)
    # Threads that other tests have left may never end.
    from_before = set(threading.enumerate())
    found = begin(thing=DIES_LATER)
    look_until(found, lambda: found.services[0].state == "ready")
    found.services[0].kill()
    look_until(found, lambda: found.services[0].state == "given up")
    for _ in range(3):
        found.look()
    for thread in set(threading.enumerate()) - from_before:
        if not thread.daemon:
            thread.join(timeout=SECONDS_AT_MOST)
    (told,) = notices(tmp_path)
    assert told.title == "thing is given up"
    assert "no more" in told.text


def to_a_full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def to_nobody() -> int:
    ours, theirs = os.pipe()
    os.close(ours)
    return theirs


@pytest.mark.parametrize("where", [to_a_full_disk, to_nobody])
def test_what_cannot_be_printed_ends_nothing(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, where: Callable[[], int]
) -> None:
    stream = os.fdopen(where(), "w")
    monkeypatch.setattr("sys.stdout", stream)
    found = begin(thing=_LASTS)
    try:
        look_until(found, lambda: found.services[0].state == "ready")
        found.stop.count = 1
        found.run()
        assert found.services[0].has_ended()
    finally:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.close()


def test_what_is_asked_of_this_machine_goes_past_any_proxy(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    found = begin(server=_ANSWERS)
    url = f"http://127.0.0.1:{port_of(found, 'server')}"
    wait_until(lambda: answers(url))
    assert not answers(f"{url}/not-there")
    assert not answers("http://127.0.0.1:9")


def test_what_listens_without_speaking_http_counts_as_no_answer(begin: Begin) -> None:
    assert (
        ask(f"http://127.0.0.1:{port_of(begin(server=_TALKS_NO_HTTP), 'server')}")
        is None
    )
