"""kill -9 of engines under load: how soon they are back, and what clients hear meanwhile."""

import os
import re
import sys
import time

import psutil
import pytest

from serving.endpoint.engine_record import read_records
from tests.support.endpoint_system import Home, Running, endpoint, record_of
from tests.support.waiting import wait_until
from tests.support.watching_clients import WHOLE, WatchingClients

pytestmark = pytest.mark.slow

KILLS = 2
SECONDS_TO_COME_BACK = 10.0
MAY_BE_TOLD = {WHOLE, "engine_lost", "not_ready", "overloaded"}


def has_spare(running: Running) -> bool:
    """Whether a process that has imported everything waits for an engine to need it."""
    text = running.log.read_text()
    ready = re.findall(r"Spare engine process (\d+) is ready", text)
    taken = {record.pid for record in read_records(running.home)}
    return any(psutil.pid_exists(pid) for pid in {*map(int, ready)} - taken)


@pytest.mark.parametrize("versions", [("1",), ("1", "2")], ids=["alone", "predecessor"])
def test_a_killed_engine_is_back_and_every_request_is_answered_or_told_why(
    home: Home, versions: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As by itself; most tests have none.
    monkeypatch.setenv("ASSAY_SPARE_ENGINES", "1")
    last = versions[-1]
    with endpoint(home) as running:
        began = time.monotonic()
        for version in versions:
            home.release(version)
        first_start = time.monotonic() - began
        comebacks: list[float] = []
        with WatchingClients(running.url).running() as clients:
            for _ in range(KILLS):
                # As after some quiet seconds, which is how most engines are lost.
                wait_until(lambda: has_spare(running))
                clients.wait_for(40)
                psutil.Process(record_of(home, last).pid).kill()
                killed = time.monotonic()
                first = clients.wait_for_whole(killed, last)
                comebacks.append(first.until - killed)
            clients.wait_for(40)
        ends = clients.ends()
        longest = max(each.seconds for each in clients.outcomes)
    shown = ", ".join(f"{seconds:.1f}" for seconds in comebacks)
    sys.stdout.write(
        f"{last} of {versions}: back after {shown} s (first start {first_start:.1f} s); "
        f"{dict(ends)}; longest request {longest:.1f} s; load {os.getloadavg()[0]:.1f}\n"
    )
    assert set(ends) <= MAY_BE_TOLD
    # At the moment of a kill each client has one request, and asks anew only when it is told.
    assert ends["engine_lost"] <= KILLS * clients.count
    # On a machine that has other work, a first start takes as long.
    assert max(comebacks) < max(SECONDS_TO_COME_BACK, 2 * first_start)
