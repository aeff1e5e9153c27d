"""`assay up` has the endpoint back with the engines that it had, and leaves none."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from core.errors import ServingError
from core.system_record import read_record
from operations.supervise.processes import end_marked, find_marked
from operations.system_mark import system_mark
from serving.endpoint.engine_record import read_records
from serving.playground.api import EndpointApi, Visitor
from tests.support.certificates import write_certificate
from tests.support.endpoint_system import MODEL, QUESTION, ROOT, Home
from tests.support.processes import words_of
from tests.support.running_system import free_ports, has_ended, nothing_left
from tests.support.waiting import SECONDS_AT_MOST, wait_until


@contextmanager
def supervised(
    home: Home, port: int, is_there: Callable[[int], bool] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """Until what is released answers; nothing of it is left afterwards."""
    is_there = is_there or answers
    command = [
        sys.executable,
        "-m",
        "tests.support.supervised_endpoint",
        str(home.path),
        str(port),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        wait_until(lambda: is_there(port))
        yield process
    finally:
        process.terminate()
        process.wait(SECONDS_AT_MOST)
        end_marked(system_mark(home.path))


def answers(port: int) -> bool:
    body = {"model": MODEL, "messages": QUESTION, "max_tokens": 4}
    with suppress(httpx.HTTPError):
        return (
            httpx.post(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                json=body,
                timeout=60,
            ).status_code
            == 200
        )
    return False


def processor_seconds(pid: int | None) -> float:
    """What a process has worked since its start."""
    with suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return float("nan")


def pid_of(home: Home) -> int | None:
    record = read_record(home.path)
    service = None if record is None else record.service("endpoint")
    return None if service is None else service.pid


def kill_endpoint(home: Home) -> int:
    """Kill -9 of the endpoint's own process."""
    wait_until(lambda: pid_of(home) is not None)
    pid = pid_of(home)
    assert pid is not None
    os.kill(pid, 9)
    return pid


def test_a_killed_endpoint_is_back_with_the_engines_that_it_had_and_the_end_leaves_none(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    [port] = free_ports(1)
    with supervised(home, port) as up:
        [before] = read_records(home.path)
        for _ in range(2):
            killed = kill_endpoint(home)
            since = time.monotonic()
            assert has_ended(killed)
            assert answers(port), "who connects in between waits"
            seconds = time.monotonic() - since
            assert read_records(home.path) == (before,)
            wait_until(lambda killed=killed: pid_of(home) not in (None, killed))  # type: ignore[misc]
            work = processor_seconds(pid_of(home))
            sys.stdout.write(
                f"kill to answer: {seconds:.2f} s, of which the endpoint worked {work:.2f} s\n"
            )
        up.terminate()
        assert up.wait(SECONDS_AT_MOST) == 0
        assert list(find_marked(system_mark(home.path))) == []
        assert not before.is_running()


@pytest.mark.ci
def test_a_killed_endpoint_and_an_end_leave_no_spare_engine(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_SPARE_ENGINES", "1")
    home.switch(home.begin("1"))
    [port] = free_ports(1)
    with supervised(home, port) as up:
        wait_until(lambda: len(spares_of(home)) == 1)
        [first] = spares_of(home)
        kill_endpoint(home)
        assert has_ended(first)
        wait_until(lambda: spares_of(home) not in ([], [first]))
        up.terminate()
        assert up.wait(SECONDS_AT_MOST) == 0
        assert list(find_marked(system_mark(home.path))) == []


def spares_of(home: Home) -> list[int]:
    """Processes of that home that wait to be told what to load."""
    return [
        each.pid
        for each in find_marked(system_mark(home.path))
        if "--spare" in words_of(each)
    ]


@pytest.mark.ci
def test_a_killed_assay_up_leaves_no_engine(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_SPARE_ENGINES", "1")
    home.switch(home.begin("1"))
    [port] = free_ports(1)
    with supervised(home, port) as up:
        kill_endpoint(home)
        wait_until(lambda: answers(port))
        up.kill()
        up.wait()
        assert nothing_left(home.path, seconds=SECONDS_AT_MOST)


@pytest.mark.ci
def test_an_endpoint_that_speaks_tls_is_seen_to_be_ready_and_the_page_can_ask_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = write_certificate(tmp_path / "tls")
    monkeypatch.setenv("ASSAY_TLS_CERTIFICATE", str(certificate))
    monkeypatch.setenv("ASSAY_TLS_KEY", str(key))
    home.switch(home.begin("1"))
    [port] = free_ports(1)

    def is_ready(_: int) -> bool:
        record = read_record(home.path)
        service = None if record is None else record.service("endpoint")
        return service is not None and service.state == "ready"

    async def names() -> list[str]:
        api = EndpointApi(f"https://127.0.0.1:{port}/v1")
        async with aclosing(api):
            # Where it takes its time on a busy machine it is asked again.
            with suppress(ServingError):
                return [model.name for model in await api.models(Visitor(""))]
        return []

    with supervised(home, port, is_ready):
        record = read_record(home.path)
        assert record is not None
        service = record.service("endpoint")
        assert service is not None
        assert service.url == f"https://127.0.0.1:{port}/healthz"
        # `assay status` asks it so.
        assert service.answers()
        wait_until(lambda: MODEL in asyncio.run(names()))
