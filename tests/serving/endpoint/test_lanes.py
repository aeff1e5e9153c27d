"""Who answers one request, of those that are there."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.engines.refusal import Refusal
from registry.ledger.entries import Head, Release
from registry.ledger.state import RecordedRelease
from serving.endpoint.lanes import Branch, Lane, Lanes, Target
from serving.endpoint.limits import Limits
from serving.endpoint.loading import EngineContext
from serving.endpoint.need import Need
from serving.endpoint.readiness import Readiness, Standing
from serving.endpoint.release_engine import EngineStart, ReleaseEngine
from serving.openai_schema.models import ReadyReport
from tests.support.endpoint_system import Home


def _engine(
    home: Home, version: str, port: int = 0, after: ReleaseEngine | None = None
) -> ReleaseEngine:
    """An engine that is taken for one that answers on that port.

    By itself it fails, since its package is not there.
    """
    release = Release(
        model=home.model,
        version=version,
        package_sha256=home.digests[version],
        spec=home.specs[version],
        known_answers_share=1,
    )
    recorded = RecordedRelease(
        begun=int(version),
        release=release,
        judged=1,
        by="ann",
        reason_sha256="0" * 64,
        at=datetime.now(UTC),
    )
    engine = ReleaseEngine(
        Need(recorded),
        EngineContext(Path("nowhere"), Limits(), lambda: None),
        EngineStart(after),
    )
    if port:
        engine.state, engine.port = "ready", port
    return engine


def test_requests_go_by_weight_and_to_who_steps_in_where_an_engine_is_gone(
    packed: Home,
) -> None:
    async def ask() -> tuple[Counter[str], set[str], str]:
        engines = [
            _engine(packed, version, int(version)) for version in ("1", "2", "3")
        ]
        one, two, three = (Target(engine) for engine in engines)
        lanes = Lanes({"m": Lane((Branch(one, 90), Branch(two, 10)), (three,))})
        shares = Counter([(await lanes.bind("m", None, 0)).label for _ in range(2000)])
        without_one = {(await lanes.bind("m", 1, 0)).label for _ in range(100)}
        for engine in engines[:2]:
            engine.port = 0
        stand_in = (await lanes.bind("m", None, 0)).label
        engines[2].port = 0
        with pytest.raises(Refusal, match="No engine of m answers"):
            await lanes.bind("m", None, 0)
        await asyncio.gather(*(engine.close() for engine in engines))
        return shares, without_one, stand_in

    shares, without_one, stand_in = asyncio.run(ask())
    assert 120 < shares["2"] < 290
    assert shares["1"] + shares["2"] == 2000
    assert without_one == {"2"}
    assert stand_in == "3"


def test_a_predecessor_does_not_wait_for_a_successor_that_was_let_go(
    packed: Home,
) -> None:
    async def wait() -> str:
        successor = _engine(packed, "2")
        predecessor = _engine(packed, "1", after=successor)
        await successor.close()
        await asyncio.wait_for(predecessor.wait_until_settled(), 60)
        await predecessor.close()
        return predecessor.state

    assert asyncio.run(wait()) == "failed"


def test_an_endpoint_is_ready_where_something_answers_and_nothing_hinders_it(
    packed: Home,
) -> None:
    async def ask() -> tuple[str, ReadyReport, str]:
        lanes = Lanes()
        with pytest.raises(Refusal) as before_release:
            Readiness(lanes).report()
        engine = _engine(packed, "1", 1)
        lanes.replace({"m": Lane((Branch(Target(engine)),))})
        head = Head(ledger_id="1" * 32, generation=7, hash="2" * 64)
        report = Readiness(lanes, lambda: Standing(head)).report()
        with pytest.raises(Refusal) as hindered:
            Readiness(lanes, lambda: Standing(head, "It is alone.")).report()
        await engine.close()
        return str(before_release.value), report, str(hindered.value)

    before_release, report, hindered = asyncio.run(ask())
    assert "Nothing is released yet" in before_release
    fingerprints = {"m": packed.specs["1"].fingerprint}
    engines = {"m": "transformers"}
    assert report == ReadyReport(
        generation=7, fingerprints=fingerprints, engines=engines
    )
    assert hindered == "It is alone."


def test_an_engine_that_sleeps_wants_the_processor_once_somebody_waits_for_it(
    packed: Home,
) -> None:
    async def ask() -> tuple[bool, bool]:
        engine = _engine(packed, "1", 1)
        engine.state = "asleep"
        sleeps = not engine.is_loading
        lanes = Lanes(seconds_to_wake=0.0)
        lanes.replace({"m": Lane((Branch(Target(engine)),))})
        with pytest.raises(Refusal):
            await lanes.bind("m", None, 0.0)
        wakes = engine.is_loading
        await engine.close()
        return sleeps, wakes

    assert asyncio.run(ask()) == (True, True)
