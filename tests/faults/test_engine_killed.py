"""An engine killed again and again under constant load from clients without retries.

Few answers break off, none waits for ever.
"""

import random
import sys
import time
from pathlib import Path

import pytest

from serving.endpoint.limits import Limits
from tests.support.endpoint_system import Load, endpoint
from tests.support.journey import Package
from tests.support.released import make_home

KILLS, CLIENTS = 5, 6
TOLD_AT_ONCE = {("1",): ("engine_lost", "not_ready"), ("1", "2"): ("engine_lost",)}
"""What a client may hear.

An engine without a predecessor that ends again and again is not waited for: its clients are told so
at once.
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "versions", [("1",), ("1", "2")], ids=["alone", "with a predecessor"]
)
def test_an_engine_that_is_killed_again_and_again_comes_back_and_its_predecessor_answers_meanwhile(
    tiny_base: Path, package: Package, tmp_path: Path, versions: tuple[str, ...]
) -> None:
    home, chance = make_home(tiny_base, package.folder, tmp_path), random.Random(47)
    last = versions[-1]
    with endpoint(home) as running:
        for version in versions:
            home.release(version)
        home.wait(
            lambda state: (
                [engine.state for engine in state.engines] == ["ready"] * len(versions)
            )
        )
        with Load(running.url, threads=CLIENTS).running() as load:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.5, 2))
                running.kill_engine_of(home.package(last))
                home.wait(home.answers_with(last))
                load.wait_for_answer_of(home.specs[last].fingerprint)
        assert home.client.ring().alarms == ()
    longest = max(answer.until - answer.since for answer in load.answers)
    sys.stdout.write(
        f"{versions}: {len(load.failures)} of {len(load.answers) + len(load.failures)} broke "
        f"off, longest {longest:.1f} s\n"
    )
    assert [
        failure
        for failure in load.failures
        if not any(word in failure for word in TOLD_AT_ONCE[versions])
    ] == []
    # What had begun to arrive at the moment of a kill ends in an error event: one answer of each
    # client at the most.
    assert sum("engine_lost" in failure for failure in load.failures) <= KILLS * CLIENTS
    assert longest < Limits().seconds_to_come_back + 5
    assert {answer.fingerprint for answer in load.answers} <= {
        home.specs[version].fingerprint for version in versions
    }
