"""Engines that nobody asks give their memory back, and a request has them loaded again."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from core.errors import ServingError
from core.settings import Settings
from pipelines.values.canary import CanaryPlan
from registry.ledger.entries import CanaryStep, ReleaseSwitched
from registry.release.following import EndpointState
from serving.endpoint.idleness import Idleness, seconds_until_unloaded
from tests.support.endpoint_system import Home, Running, endpoint, events
from tests.support.waiting import wait_until

SECONDS = 1.0
OPTIONS = ("--seconds-until-unloaded", str(SECONDS))


@pytest.mark.parametrize("text", ["0", "30", "604800"])
def test_seconds_within_bounds_are_taken(text: str) -> None:
    assert seconds_until_unloaded(Settings(unload_after=text)) == int(text)


@pytest.mark.parametrize(
    "text", ["29", "604801", "-1", "1.5", "soon", "٣٠", "9" * 4000]
)
def test_seconds_out_of_bounds_end_the_start(text: str) -> None:
    with pytest.raises(ServingError, match="ASSAY_UNLOAD_AFTER"):
        seconds_until_unloaded(Settings(unload_after=text))


def test_an_engine_without_a_limit_is_never_unloaded() -> None:
    async def wait() -> None:
        await asyncio.wait_for(Idleness(0).wait_until_over(), 0.05)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())


def test_who_asked_before_an_engine_slept_does_not_wake_it() -> None:
    async def wait() -> None:
        idleness = Idleness(1)
        idleness.wake()
        idleness.begin_sleep()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(idleness.wait_until_woken(), 0.05)
        idleness.wake()
        await idleness.wait_until_woken()

    asyncio.run(wait())


def test_each_request_begins_the_time_anew() -> None:
    async def wait() -> float:
        idleness = Idleness(0.1)
        waiting = asyncio.create_task(idleness.wait_until_over())
        await asyncio.sleep(0.06)
        idleness.note()
        noted = time.monotonic()
        await waiting
        return time.monotonic() - noted

    assert asyncio.run(wait()) >= 0.1


class TestUnloading:
    @pytest.mark.ci
    def test_an_unloaded_release_is_ready_for_whoever_asks_and_answers_as_before(
        self, home: Home
    ) -> None:
        with endpoint(home, *OPTIONS) as running:
            begun = home.release("1")
            before = running.ask(temperature=0).json()["choices"]
            wait_until(lambda: not running.engines())
            state = home.client.state()
            engine = state.engine(begun)
            assert engine is not None
            assert engine.state == "ready"
            assert "nobody asked it" in engine.detail
            assert state.routes[home.model].fingerprint == home.specs["1"].fingerprint
            assert state.alarms == ()
            # Eight at once load one process, and none of them is told to come again.
            answers = ask_at_once(running, 8)
            assert [answer.status_code for answer in answers] == [200] * 8
            choices = [answer.json()["choices"] for answer in answers]
            assert choices == [before] * 8
            assert len(running.engines()) == 1
            assert f"version 1 of {home.model} is asleep" in running.log.read_text()

    @pytest.mark.slow
    def test_a_stream_that_lasts_longer_than_the_limit_is_whole(
        self, home: Home
    ) -> None:
        with endpoint(home, *OPTIONS) as running:
            home.release("1")
            for _ in range(5):
                answer = running.ask(stream=True, max_tokens=200)
                assert answer.text.endswith("data: [DONE]\n\n")
                assert all("error" not in event for event in events(answer.text))
            # The base has its own name and the same engine.
            wait_until(lambda: not running.engines())
            [base] = running.client.models.list().data[1:]
            assert running.ask(base.id).status_code == 200

    @pytest.mark.ci
    def test_a_package_that_was_damaged_meanwhile_does_not_wake(
        self, home: Home
    ) -> None:
        with endpoint(home, *OPTIONS) as running:
            home.release("1")
            wait_until(lambda: not running.engines())
            package = home.package("1")
            [weights] = package.rglob("*.safetensors")
            weights.chmod(0o644)
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
            assert running.ask().status_code == 503
            state = home.wait(lambda state: state.alarms != ())
            assert "does not run" in state.alarms[0]

    @pytest.mark.ci
    def test_who_waits_is_answered_though_the_process_is_killed_while_it_loads(
        self, home: Home
    ) -> None:
        with endpoint(home, *OPTIONS) as running:
            home.release("1")
            wait_until(lambda: not running.engines())
            with ThreadPoolExecutor(1) as client:
                asked = client.submit(running.ask)
                wait_until(lambda: bool(running.engines()))
                [loading] = running.engines()
                loading.kill()
                assert asked.result().status_code == 200
            assert home.client.state().alarms == ()

    @pytest.mark.slow
    def test_a_release_and_a_rollback_find_what_was_unloaded(self, home: Home) -> None:
        with endpoint(home, *OPTIONS) as running:
            first = home.release("1")
            wait_until(lambda: not running.engines())
            home.release("2")
            home.wait(home.answers_with("2"))
            wait_until(lambda: not running.engines())
            home.roll_back(first)
            home.wait(home.answers_with("1"))
            answer = running.ask()
            assert answer.status_code == 200
            fingerprint = answer.headers["x-assay-fingerprint"]
            assert fingerprint == home.specs["1"].fingerprint

    @pytest.mark.ci
    def test_what_a_bake_compares_with_is_loaded_again_and_stays(
        self, home: Home
    ) -> None:
        with endpoint(home, *OPTIONS) as running:
            home.release("1")
            wait_until(lambda: not running.engines())
            switch_to_bake(home, begin_canary(home))
            # Copies of requests wake nobody: without an engine nothing would be compared.
            wait_until(lambda: has_compared(home, running))
            time.sleep(2 * SECONDS)
            assert len(running.engines()) == 2


def has_compared(home: Home, running: Running) -> bool:
    assert running.ask().headers["x-assay-release"] == "2"
    [report] = home.client.ring().canaries
    return report.baseline.requests > 0


def begin_canary(home: Home) -> int:
    plan = CanaryPlan(weights=(50,), bake_s=3600, copied_percent=100)
    return home.begin("2", canary=plan)


def switch_to_bake(home: Home, begun: int) -> None:
    """Have its last step over, without a request."""
    home.wait(lambda state: is_ready(state, begun))
    home.write(CanaryStep(begun=begun, weight=50), ReleaseSwitched(begun=begun))


def is_ready(state: EndpointState, begun: int) -> bool:
    engine = state.engine(begun)
    return engine is not None and engine.state == "ready"


def ask_at_once(running: Running, count: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as clients:
        asked = [clients.submit(running.ask, temperature=0) for _ in range(count)]
        return [each.result() for each in asked]
