"""Slow and vanishing clients, and what others notice of them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.endpoint_system import Home, Running, endpoint
from tests.support.slow_clients import KINDS
from tests.support.waiting import SECONDS_AT_MOST
from tests.support.watching_clients import WHOLE, WatchingClients, percentile

pytestmark = pytest.mark.slow

ROUNDS = 2
REQUESTS = 300
CLIENTS = 4
TOOL = shutil.which("slowhttptest")
TOOL_KINDS = {"heads": ("-H",), "bodies": ("-B",), "readers": ("-X", "-k", "3")}


def own(url: str, kind: str) -> list[str]:
    return [sys.executable, "-m", "tests.support.slow_clients", url, kind]


def debians(url: str, kind: str) -> list[str]:
    """`slowhttptest`, which ends by itself after a while."""
    bounds = ("-c", "200", "-r", "100", "-i", "1", "-x", "10", "-l", "600", "-p", "3")
    path = "/v1/models" if kind == "readers" else "/v1/chat/completions"
    kinds = TOOL_KINDS[kind]
    json = ("-f", "application/json") if kind == "bodies" else ()
    return [str(TOOL), *kinds, *bounds, *json, "-u", f"{url}{path}"]


@contextmanager
def beside(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
        assert process.poll() is None, "they ended before the measurement"
    finally:
        process.kill()
        process.wait(SECONDS_AT_MOST)


def seconds_of(running: Running) -> list[float]:
    """How long requests of polite clients take. Every one of them is answered."""
    fields = {"max_tokens": 8, "temperature": 1.0}
    clients = WatchingClients(running.url, CLIENTS, fields)
    with clients.running():
        outcomes = clients.wait_for(REQUESTS)
    assert set(clients.ends()) == {WHOLE}
    return [each.seconds for each in outcomes]


@pytest.fixture(scope="module")
def running(shared: Home) -> Iterator[Running]:
    with endpoint(shared) as running:
        shared.release("1")
        yield running


CASES = [("own", kind) for kind in KINDS]
CASES += [("slowhttptest", kind) for kind in TOOL_KINDS]


@pytest.mark.parametrize(("tool", "kind"), CASES)
def test_others_are_answered_in_no_more_than_twice_the_time(
    running: Running, tool: str, kind: str
) -> None:
    if tool == "slowhttptest" and TOOL is None:
        pytest.skip("Debian's slowhttptest is not installed")
    command = own if tool == "own" else debians
    quiet: list[float] = []
    disturbed: list[float] = []
    # In turns: the machine may have other work, too.
    for _ in range(ROUNDS):
        quiet.append(percentile(seconds_of(running), 99))
        with beside(command(running.url, kind)):
            disturbed.append(percentile(seconds_of(running), 99))
    shown = ", ".join(
        f"{before:.3f} and {after:.3f}"
        for before, after in zip(quiet, disturbed, strict=True)
    )
    sys.stdout.write(f"p99 in s without and with {tool}'s slow {kind}: {shown}\n")
    assert min(disturbed) <= 2 * max(quiet)
