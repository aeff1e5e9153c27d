"""Canaries on the real endpoint, with real engines, a real ledger and a real driver."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from core.project import Project
from operations.reconcile import Reconciler
from pipelines.values.canary import CanaryPlan
from registry.ledger.entries import Release
from registry.ledger.ledger import open_ledger
from registry.release.brakes import roll_back
from registry.release.context import ChangeRequest, ReleaseContext
from registry.release.known_answers import read_known_answers, write_known_answers
from registry.release.release import drive_release, is_at_rest
from tests.support.endpoint_system import (
    MODEL,
    ROOT,
    Home,
    Load,
    Running,
    endpoint,
)
from tests.support.ledgers import begin_release
from tests.support.waiting import SECONDS_AT_MOST, wait_until

pytestmark = pytest.mark.ci
# The weights of version 1 in another package: a candidate that is exactly as good.
TWIN = "4"
PLAN = CanaryPlan(
    weights=(25, 50),
    window_s=1,
    least_requests=10,
    max_pause_s=60,
    bake_s=2,
    copied_percent=100,
)
DRIVER = """
import sys
from pathlib import Path
from registry.ledger.ledger import open_ledger
from registry.release.context import ReleaseContext
from registry.release.release import drive_release
from serving.client import endpoint_client
home = Path(sys.argv[1])
drive_release(sys.argv[2], ReleaseContext(open_ledger(home), endpoint_client(home)))
"""


@pytest.fixture
def site(home: Home) -> Iterator[tuple[Home, Running]]:
    """Version 1 serves, and a twin of it can be released."""
    package = home.with_changed("1", _without_last_known_answer).digests["1"]
    twin = replace(
        home,
        specs={**home.specs, TWIN: home.specs["1"]},
        digests={**home.digests, TWIN: package},
    )
    with endpoint(twin) as running:
        twin.release("1")
        yield twin, running


def _without_last_known_answer(package: Path) -> None:
    *known_answers, _ = read_known_answers(package / "known_answers.jsonl")
    write_known_answers(package / "known_answers.jsonl", known_answers)


def begin(home: Home, canary: CanaryPlan = PLAN) -> int:
    release = Release(
        model=home.model,
        version=TWIN,
        package_sha256=home.digests[TWIN],
        spec=home.specs[TWIN],
        known_answers_share=0.5,
        canary=canary,
    )
    return begin_release(open_ledger(home.path), release)


def context(home: Home) -> ReleaseContext:
    return ReleaseContext(open_ledger(home.path), home.client)


def drive(home: Home) -> None:
    drive_release(MODEL, context(home))


def kinds(home: Home, begun: int) -> Counter[str]:
    entries = open_ledger(home.path).entries(after=begun)
    return Counter(entry.body.kind for entry in entries)


def version_of(home: Home) -> str | None:
    answering = home.ledger_state.model(MODEL).answering
    return None if answering is None else answering.release.version


def why_aborted(home: Home) -> str:
    ledger = open_ledger(home.path)
    for entry in ledger.entries():
        if entry.body.kind == "release_aborted":
            return ledger.recall(entry.body.reason_sha256) or ""
    return ""


def wait_for_step(home: Home, begun: int, weight: int) -> None:
    """Wait until the endpoint counts the step of that weight."""

    def is_counted() -> bool:
        pending = home.ledger_state.model(MODEL).pending
        assert pending is not None, why_aborted(home)
        report = home.client.ring().canary(begun)
        progress = pending.canary
        if progress is None or report is None or progress.weight != weight:
            return False
        return report.step == progress.step

    wait_until(is_counted)


@contextmanager
def driver(home: Home) -> Iterator["subprocess.Popen[bytes]"]:
    """A driver as a process."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(home.path), MODEL],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(SECONDS_AT_MOST)


def test_a_candidate_that_is_as_good_goes_through_and_no_request_is_lost(
    site: tuple[Home, Running],
) -> None:
    home, running = site
    with Load(running.url, threads=4).running() as load:
        begun = begin(home)
        drive(home)
    assert load.failures == []
    assert kinds(home, begun) == {
        "canary_step": 2,
        "release_switched": 1,
        "release_completed": 1,
    }
    assert version_of(home) == TWIN
    # The process that it was compared with is let go.
    wait_until(lambda: len(running.engines()) == 2)


def test_a_driver_that_is_killed_at_a_weight_is_followed_by_the_controller(
    site: tuple[Home, Running],
) -> None:
    home, running = site
    begun = begin(home)
    with driver(home) as process, Load(running.url, threads=4).running() as load:
        wait_for_step(home, begun, 25)
        process.kill()
        process.wait(SECONDS_AT_MOST)
        sentences = rounds_until_rest(home)
    assert load.failures == []
    assert kinds(home, begun)["canary_step"] == 2
    # Each round looks once: it says what came of the canary when that is over.
    carried = f"A release of {MODEL} that was left on its way was carried to its end:"
    assert sentences == [f"{carried} version {TWIN} serves."]


def rounds_until_rest(home: Home) -> list[str]:
    """What the controller says in its rounds until nothing is left on its way."""
    controller = Reconciler(Project(ROOT, home.path))
    sentences: list[str] = []

    def is_done() -> bool:
        sentences.extend(controller.finish_releases())
        return is_at_rest(home.ledger_state.model(MODEL))

    assert not is_at_rest(home.ledger_state.model(MODEL))
    wait_until(is_done)
    return sentences


@contextmanager
def pulsed(process: psutil.Process) -> Iterator[None]:
    """Hold a process up for most of the time: it answers, and slowly."""
    stop = threading.Event()

    def hold() -> None:
        while not stop.is_set():
            process.send_signal(signal.SIGSTOP)
            stop.wait(0.4)
            process.send_signal(signal.SIGCONT)
            stop.wait(0.05)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(SECONDS_AT_MOST)
        # NoSuchProcess: it was aborted, as it should be.
        if process.is_running():
            process.send_signal(signal.SIGCONT)


def test_a_candidate_that_answers_slowly_is_aborted_and_users_keep_what_served(
    site: tuple[Home, Running],
) -> None:
    home, running = site
    begun = begin(home, canary=PLAN.model_copy(update={"window_s": 600}))
    with driver(home), Load(running.url, threads=4).running() as load:
        wait_for_step(home, begun, 25)
        with pulsed(running.engine_of(home.package(TWIN))):
            wait_until(lambda: home.ledger_state.model(MODEL).pending is None)
    reason = why_aborted(home)
    assert "latency over" in reason or "first_token over" in reason
    assert load.failures == []
    assert version_of(home) == "1"


def rate_answers(running: Running, until: Callable[[], bool]) -> None:
    """Ever other clients ask, dislike what the candidate says and like the rest."""
    for number in range(1000):
        if until():
            return
        # As a proxy on this machine says it.
        client = {"x-forwarded-for": f"198.51.{number // 250}.{number % 250}"}
        stream = number % 2 == 0
        answer = running.ask(stream=stream, user=f"client {number}")
        first_line = answer.text.partition("\n")[0].removeprefix("data: ")
        is_candidate = answer.headers["x-assay-release"] == TWIN
        rating = {
            "id": json.loads(first_line)["id"],
            "score": -1 if is_candidate else 1,
        }
        url = f"{running.url}/v1/feedback"
        rated = httpx.post(url, json=rating, headers=client, timeout=SECONDS_AT_MOST)
        assert rated.status_code == 200, rated.text
        again = httpx.post(url, json=rating, headers=client, timeout=SECONDS_AT_MOST)
        assert again.status_code == 409
    raise AssertionError("a thousand clients were not heard")


def test_a_candidate_that_clients_rate_as_worse_is_aborted(
    site: tuple[Home, Running],
) -> None:
    home, running = site
    plan = PLAN.model_copy(update={"weights": (50,), "window_s": 600})
    begun = begin(home, canary=plan)
    with driver(home):
        wait_for_step(home, begun, 50)
        rate_answers(running, lambda: home.ledger_state.model(MODEL).pending is None)
    assert "negative feedback in 100.0% of" in why_aborted(home)
    assert version_of(home) == "1"


def test_a_candidate_whose_process_dies_is_aborted_and_its_requests_are_answered(
    site: tuple[Home, Running],
) -> None:
    home, running = site
    begun = begin(home)
    with driver(home), Load(running.url, threads=4).running() as load:
        wait_for_step(home, begun, 25)
        running.engine_of(home.package(TWIN)).kill()
        wait_until(lambda: home.ledger_state.model(MODEL).pending is None)
    assert "its engine process ended" in why_aborted(home)
    # What had begun to stream ends with an error in its stream; all else is answered.
    assert all("engine_lost" in failure for failure in load.failures)
    assert len(load.failures) <= 4


def test_without_traffic_it_pauses_and_goes_back_after_the_longest_pause(
    site: tuple[Home, Running],
) -> None:
    home, _ = site
    begun = begin(home, canary=PLAN.model_copy(update={"max_pause_s": 2}))
    drive(home)
    assert kinds(home, begun) == {
        "canary_step": 1,
        "canary_paused": 1,
        "release_aborted": 1,
    }
    assert "nobody asked it" in why_aborted(home)


def test_a_rollback_in_a_canary_lets_open_streams_of_the_candidate_finish(
    site: tuple[Home, Running],
) -> None:
    home, running = site
    begun = begin(home, canary=PLAN.model_copy(update={"weights": (50,)}))
    with driver(home):
        wait_for_step(home, begun, 50)
        streams = [running.stream(max_tokens=200) for _ in range(8)]
        first_chunks = [next(iter(stream)) for stream in streams]
        assert len(first_chunks) == 8
        started = time.monotonic()
        roll_back(MODEL, None, ChangeRequest("ann", "because"), context(home))
        assert time.monotonic() - started < SECONDS_AT_MOST
        for stream in streams:
            *_, last = stream
            assert last.choices[0].finish_reason in {"stop", "length"}
    assert home.ledger_state.model(MODEL).pending is None


def test_an_endpoint_that_is_killed_in_a_canary_counts_it_anew(
    site: tuple[Home, Running], tmp_path: Path
) -> None:
    home, running = site
    begun = begin(home, canary=PLAN.model_copy(update={"max_pause_s": 600}))
    with driver(home) as process:
        wait_for_step(home, begun, 25)
        process.kill()
        process.wait(SECONDS_AT_MOST)
    running.kill()
    with endpoint(home) as again:
        wait_for_step(home, begun, 25)
        with Load(again.url, threads=4).running() as load:
            drive(home)
        assert load.failures == []
    assert version_of(home) == TWIN
