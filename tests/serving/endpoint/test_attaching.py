"""What running streams notice while an adapter is loaded beside them; how fast one goes back."""

import gc
import statistics
import sys
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.support.endpoint_system import Home, endpoint
from tests.support.watching_clients import WHOLE, Gap, WatchingClients, percentile

pytestmark = pytest.mark.slow

ATTACHED = 5
CLIENTS = 8
"""Half of them stream."""
GOAL = 0.2
"""Seconds that no running stream should wait for its next piece, on a machine that is quiet."""
TIMES_ALONE = 4
"""On a machine that is not, waits are compared with those while nothing is attached."""


def describe(gaps: Iterable[Gap]) -> str:
    milliseconds = [1000 * gap.seconds for gap in gaps]
    half = percentile(milliseconds, 50)
    most = percentile(milliseconds, 99.9)
    return (
        f"{len(milliseconds)} gaps, p50 {half:.0f} ms, p99.9 {most:.0f} ms, "
        f"longest {max(milliseconds):.0f} ms"
    )


@pytest.fixture
def unsearched() -> Iterator[None]:
    """A full search of this process for garbage would make its clients wait."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_streams_go_on_while_an_adapter_is_attached_and_a_rollback_is_quick(
    home: Home, unsearched: None
) -> None:
    attaching: list[tuple[float, float]] = []
    rollbacks: list[float] = []
    with endpoint(home) as running:
        before = home.release("1")
        clients = WatchingClients(running.url, CLIENTS, {"max_tokens": 400})
        with clients.running():
            clients.wait_for(4 * CLIENTS)
            for turn in range(ATTACHED):
                version = "23"[turn % 2]
                began = time.monotonic()
                home.release(version)
                attaching.append((began, time.monotonic()))
                clients.wait_for_whole(began, version)
                ordered = time.monotonic()
                home.roll_back(before)
                home.client.ring()
                home.wait(home.answers_with("1"))
                rollbacks.append(time.monotonic() - ordered)
                clients.wait_for_whole(ordered, "1")
            clients.wait_for(4 * CLIENTS)
    gaps = [gap for outcome in clients.outcomes for gap in outcome.gaps()]
    beside = [gap for gap in gaps if gap.is_within(attaching)]
    alone = [gap for gap in gaps if not gap.is_within(attaching)]
    longest_each = [
        max(gap.seconds for gap in beside if gap.is_within([span]))
        for span in attaching
    ]
    # One bad moment of the machine is no fault, but one with each release is.
    usual = statistics.median(longest_each)
    longest_alone = max(gap.seconds for gap in alone)
    shown = ", ".join(f"{seconds:.2f}" for seconds in rollbacks)
    sys.stdout.write(
        f"streams by themselves: {describe(alone)}\n"
        f"while an adapter is attached: {describe(beside)}\n"
        f"longest of a release, the usual one: {1000 * usual:.0f} ms, "
        f"and the goal is {1000 * GOAL:.0f} ms\n"
        f"from the order to roll back to the route: {shown} s\n"
    )
    # None was cut off by a release or a rollback, nor told to come again.
    assert set(clients.ends()) == {WHOLE}
    assert usual <= max(GOAL, TIMES_ALONE * longest_alone)
