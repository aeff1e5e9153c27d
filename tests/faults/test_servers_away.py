"""The Prefect server, or MLflow's answers, go away in the middle of a run.

Nothing is done twice, and the same command ends it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from core.loopback import answers
from flows.schedule.prefect_server import server_settings
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    forget_training,
    lines_of,
    run_arguments,
    stage_lines,
)
from tests.support.processes import children_of, words_of
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.ci


def until(process: "subprocess.Popen[str]", stage: str) -> str:
    """What the run tells until it has told this stage."""
    told = ""
    for line in stage_lines(process):
        told += line
        if line.split()[0] == stage:
            break
    return told


def server_of(process: "subprocess.Popen[str]") -> psutil.Process:
    return next(
        child
        for child in children_of(process.pid)
        if "flows.schedule.prefect_server" in words_of(child)
    )


@contextmanager
def server_of_others(folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """A Prefect server that the run did not start, and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {**os.environ, **server_settings(folder)}
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-services",
        "--no-ui",
    ]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        end = time.monotonic() + SECONDS_AT_MOST
        while not answers(f"http://127.0.0.1:{port}/api/health"):
            assert time.monotonic() < end, (folder / "server.log").read_text()
            time.sleep(0.1)
        yield server, f"http://127.0.0.1:{port}/api"
    finally:
        server.kill()
        server.wait()


def test_a_run_whose_prefect_server_is_killed_starts_it_again_and_ends_with_its_verdict(
    seeded: Checkout, judged: Journey
) -> None:
    arguments = run_arguments(judged.data, judged.base)
    process = seeded.start(*arguments, PREFECT_API_URL="")
    told = until(process, "bias")
    server_of(process).kill()
    out, err = process.communicate(timeout=SECONDS_AT_MOST)
    result = CommandResult(process.returncode, told + out, err)
    assert (result.code, result.err) == (0, ""), result.out + result.err
    assert (result.last["version"], len(seeded.versions()), len(seeded.runs())) == (
        "1",
        1,
        1,
    )


@pytest.mark.slow
def test_a_server_that_is_gone_for_good_while_a_model_trains_makes_no_second_training(
    seeded: Checkout, judged: Journey, tmp_path: Path
) -> None:
    forget_training(seeded.home / "cache")
    arguments = run_arguments(judged.data, judged.base)
    with server_of_others(tmp_path) as (server, url):
        process = seeded.start(
            *arguments, PREFECT_API_URL=url, PREFECT_CLIENT_MAX_RETRIES="1"
        )
        told = until(process, "admit")
        server.kill()
        out, err = process.communicate(timeout=SECONDS_AT_MOST)
    result = CommandResult(process.returncode, told + out, err)
    assert result.code == 1
    (line,) = result.err.strip().splitlines()
    assert line.startswith("assay: The Prefect server at")
    assert line.endswith("run the same command again.")
    again = seeded.assay(*arguments)
    assert again.code == 0, again.out + again.err
    trained = [
        line
        for each in (result, again)
        for line in lines_of(each, "fine_tune")
        if "cached" not in line
    ]
    assert len(trained) == 1, result.out + again.out
    assert len(seeded.versions()) == 1


@pytest.mark.slow
def test_a_server_that_hangs_for_a_while_costs_nothing_but_time(
    seeded: Checkout, judged: Journey
) -> None:
    process = seeded.start(*run_arguments(judged.data, judged.base), PREFECT_API_URL="")
    until(process, "bias")
    server = server_of(process)
    server.send_signal(signal.SIGSTOP)
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(process.pid).wait(timeout=SECONDS_AT_MOST)
    server.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=SECONDS_AT_MOST)
    assert process.returncode == 0, out + err
    assert (len(seeded.versions()), len(seeded.runs())) == (1, 1)
