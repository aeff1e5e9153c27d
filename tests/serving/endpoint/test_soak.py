"""Long runs: many releases under load, and kills at random moments."""

import random
import signal
import socket
import threading
from pathlib import Path

import psutil
import pytest

from registry.ledger.entries import ReleaseBegun
from registry.ledger.ledger import open_ledger
from registry.release.context import Patience, ReleaseContext
from registry.release.release import drive_release
from tests.support.endpoint_system import (
    MODEL,
    AllowedFingerprints,
    Home,
    Load,
    endpoint,
)
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.slow


def test_twenty_releases_and_rollbacks_under_load_lose_nothing(home: Home) -> None:
    begun = home.begin("1")
    home.switch(begun)
    allowed = AllowedFingerprints([(0.0, frozenset({home.specs["1"].fingerprint}))])
    with endpoint(home) as running:
        with Load(running.url).running() as load:
            for turn in range(10):
                version = "23"[turn % 2]
                candidate = home.begin(version)
                home.wait(
                    lambda state, key=candidate: any(  # type: ignore[misc]
                        (each.begun, each.state) == (key, "ready")
                        for each in state.engines
                    )
                )
                with allowed.changing_to(home.specs[version].fingerprint):
                    home.switch(candidate)
                    home.client.ring()
                load.wait_for_answer_of(home.specs[version].fingerprint)
                with allowed.changing_to(home.specs["1"].fingerprint):
                    home.roll_back(begun)
                    home.client.ring()
                load.wait_for_answer_of(home.specs["1"].fingerprint)
        assert home.wait(lambda _: len(running.engines()) == 1, 30).alarms == ()
    assert load.failures == []
    assert [answer for answer in load.answers if not allowed.holds(answer)] == []


def test_kills_at_random_moments_of_a_release_end_in_what_the_ledger_says(
    home: Home,
) -> None:
    chance = random.Random(7)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    for turn in range(6):
        home.begin("123"[turn % 3])
        context = ReleaseContext(
            open_ledger(home.path), home.client, Patience(to_load=120, to_switch=60)
        )
        driving = threading.Thread(target=drive_release, args=(MODEL, context))
        with endpoint(home, "--port", port) as running:
            driving.start()
            threading.Event().wait(chance.uniform(0, 6))
            engines = running.engines()
            victim = chance.choice([psutil.Process(running.process.pid), *engines])
            victim.send_signal(signal.SIGKILL)
            if victim.pid == running.process.pid:
                running.process.wait(SECONDS_AT_MOST)
        with endpoint(home, "--port", port) as running:
            driving.join(SECONDS_AT_MOST)
            assert not driving.is_alive()
            current = home.ledger_state.model(MODEL).current
            assert current is not None or turn == 0
            if current is not None:
                home.wait(home.answers_with(current.release.version))
                assert (
                    running.ask().headers["x-assay-release"] == current.release.version
                )
    assert any(
        isinstance(entry.body, ReleaseBegun)
        for entry in open_ledger(home.path).entries()
    )


def test_a_home_in_a_long_path_works(home: Home, tmp_path: Path) -> None:
    far = home.copy(tmp_path / ("deep-" * 30) / ("er " * 10) / "home")
    with endpoint(far) as running:
        far.release("1")
        assert running.ask().status_code == 200
