"""The release as a state machine.

What follows from the ledger and from what the endpoint says, and nothing else.
"""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import IllegalEntry, ReleaseError
from pipelines.values.verdict import Candidate, Finding
from registry.ledger.entries import (
    BaseServed,
    Entry,
    Release,
    ReleaseAborted,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    RolledBack,
)
from registry.ledger.ledger import open_ledger
from registry.release.brakes import freeze, unfreeze
from registry.release.context import Patience
from registry.release.following import EngineState, Route
from registry.release.release import (
    Stall,
    drive_release,
    is_at_rest,
    next_entry,
    release,
)
from tests.support.fake_endpoint import MODEL, WHY, Bench, spec


def test_nothing_on_its_way_is_nothing_to_do(bench: Bench) -> None:
    assert bench.next() is None
    drive_release(MODEL, bench.context)
    assert bench.kinds == ["opened"]


def test_a_release_waits_for_its_engine(bench: Bench) -> None:
    begun = bench.begin("1")
    assert bench.next() is None
    bench.engines[begun] = EngineState(begun=begun, state="loading")
    assert bench.next() is None
    bench.engines[begun] = EngineState(begun=begun, state="ready")
    assert bench.next() == ReleaseSwitched(begun=begun)


def test_an_engine_that_failed_aborts_with_its_reason(bench: Bench) -> None:
    begun = bench.begin("1")
    bench.engines[begun] = EngineState(
        begun=begun, state="failed", detail="2 of 8 known answers"
    )
    body = bench.next()
    assert isinstance(body, ReleaseAborted)
    assert bench.ledger.recall(body.reason_sha256) == "2 of 8 known answers"


def test_an_engine_that_is_never_ready_aborts(bench: Bench) -> None:
    bench.begin("1")
    assert bench.next(seconds=0.29) is None
    assert isinstance(bench.next(seconds=0.31), ReleaseAborted)


def test_what_an_endpoint_says_of_another_ledger_counts_for_nothing(
    bench: Bench,
) -> None:
    begun = bench.begin("1")
    bench.engines[begun] = EngineState(begun=begun, state="ready")
    here = bench.ledger.state().head
    for other in (
        here.model_copy(update={"generation": here.generation - 1}),
        here.model_copy(update={"hash": "0" * 64}),
        here.model_copy(update={"ledger_id": "0" * 32}),
    ):
        bench.head = other
        assert bench.next() is None
        assert isinstance(bench.next(seconds=1), ReleaseAborted)
    bench.head = here
    assert isinstance(bench.next(), ReleaseSwitched)


def test_a_switch_is_completed_when_its_own_route_answers(bench: Bench) -> None:
    first = bench.release("1")
    begun = bench.begin("2")
    bench.write(ReleaseSwitched(begun=begun))
    bench.routes[MODEL] = Route(begun=first, serves_base=False, fingerprint="fp")
    assert bench.next() is None
    bench.routes[MODEL] = Route(begun=begun, serves_base=True, fingerprint="fp")
    assert bench.next() is None
    bench.routes[MODEL] = Route(begun=begun, serves_base=False, fingerprint="fp")
    assert bench.next() == ReleaseCompleted(begun=begun)


def test_a_switch_that_never_answers_goes_back_to_what_served(bench: Bench) -> None:
    first = bench.release("1")
    begun = bench.begin("2")
    bench.write(ReleaseSwitched(begun=begun))
    body = bench.next(seconds=1)
    assert isinstance(body, RolledBack)
    assert body.to == first


def test_a_first_switch_that_never_answers_goes_to_the_base(bench: Bench) -> None:
    bench.write(ReleaseSwitched(begun=bench.begin("1")))
    assert isinstance(bench.next(seconds=1), BaseServed)


@pytest.mark.parametrize("cut", ["begun", "switched"])
def test_whoever_comes_next_carries_a_release_to_its_end(
    bench: Bench, cut: str
) -> None:
    begun = bench.begin("1")
    if cut == "switched":
        bench.write(ReleaseSwitched(begun=begun))
    bench.answers(begun)
    drive_release(MODEL, bench.context)
    assert is_at_rest(bench.ledger.state().model(MODEL))
    assert bench.traffic() == ("1", False)
    assert bench.kinds[-2:] == ["release_switched", "release_completed"]


def test_two_drivers_at_once_write_each_step_once(bench: Bench, tmp_path: Path) -> None:
    begun = bench.begin("1")
    bench.answers(begun)
    other = replace(
        bench, ledger=open_ledger(tmp_path / "home"), on_ring=lambda _: None
    )
    raced: list[str] = []

    def race(_: Bench) -> None:
        if not raced:
            raced.append("once")
            drive_release(MODEL, other.context)

    bench.on_ring = race
    drive_release(MODEL, bench.context)
    assert (
        bench.kinds.count("release_switched")
        == bench.kinds.count("release_completed")
        == 1
    )


def test_a_freeze_in_the_middle_stops_a_release(bench: Bench) -> None:
    begun = bench.begin("1")

    def at_night(each: Bench) -> None:
        if each.ledger.state().frozen is None:
            freeze(
                WHY,
                replace(each.context, endpoint=replace(each, on_ring=lambda _: None)),
            )

    bench.on_ring = at_night
    drive_release(MODEL, bench.context)
    assert bench.traffic() == (None, False)
    bench.on_ring = lambda _: None
    with pytest.raises(IllegalEntry, match="frozen"):
        bench.begin("1")
    unfreeze(WHY, bench.context)
    assert bench.begin("1") > begun


def test_an_endpoint_that_loads_a_release_once_more_after_its_switch_is_waited_for(
    bench: Bench,
) -> None:
    bench.release("1")
    begun = bench.begin("2")
    bench.write(ReleaseSwitched(begun=begun))
    bench.engines[begun] = EngineState(begun=begun, state="loading")
    context = replace(bench.context, patience=Patience(to_load=10, to_switch=0.3))
    assert (
        next_entry(bench.ledger.state(), MODEL, bench.state(), Stall(5, context))
        is None
    )
    assert isinstance(
        next_entry(bench.ledger.state(), MODEL, bench.state(), Stall(11, context)),
        RolledBack,
    )


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_driver_whose_time_is_over_leaves_the_release_as_it_is(
    bench: Bench, seconds: float
) -> None:
    begun = bench.begin("1")
    bench.engines[begun] = EngineState(begun=begun, state="loading")
    patience = Patience(until=time.monotonic() + seconds, between_looks=0.01)
    with pytest.raises(ReleaseError, match="the time to wait for it is over"):
        drive_release(MODEL, replace(bench.context, patience=patience))
    pending = bench.ledger.state().model(MODEL).pending
    assert pending is not None
    assert pending.begun == begun


@pytest.mark.parametrize("verdict", ["rejected", "undecided"])
def test_nothing_that_judge_did_not_pass_begins(bench: Bench, verdict: str) -> None:
    subject = Release(
        model=MODEL,
        version="1",
        package_sha256="1" * 64,
        spec=spec("1"),
        known_answers_share=1.0,
    )
    generation = bench.judge("1", verdict)
    with pytest.raises(IllegalEntry, match="no passed verdict"):
        bench.write(
            ReleaseBegun(
                release=subject, judged=generation, by="ann", reason_sha256="0" * 64
            )
        )


def test_a_verdict_on_other_bytes_begins_nothing(bench: Bench) -> None:
    subject = Release(
        model=MODEL,
        version="1",
        package_sha256="9" * 64,
        spec=spec("1"),
        known_answers_share=1.0,
    )
    generation = bench.judge("1")
    with pytest.raises(IllegalEntry, match="other bytes"):
        bench.write(
            ReleaseBegun(
                release=subject, judged=generation, by="ann", reason_sha256="0" * 64
            )
        )


def test_a_release_that_was_aborted_is_no_success_while_another_version_answers(
    bench: Bench,
) -> None:
    bench.release("1")
    passed = Finding(rule="screen", outcome="passed", text="It did.")
    candidate = Candidate(
        findings=(passed,),
        policy_sha256="e" * 64,
        model=MODEL,
        version="2",
        package_sha256="2" * 64,
        spec=spec("2"),
        known_answers_share=1.0,
    )
    judged = bench.judge("2")
    bench.engines[judged + 1] = EngineState(
        begun=judged + 1, state="failed", detail="its probe saw other words"
    )
    with pytest.raises(ReleaseError, match="aborted: its probe saw other words"):
        release(candidate, judged, WHY, bench.context)
    assert bench.traffic() == ("1", False)


def test_of_two_releases_at_once_the_second_is_told_who_is_first(bench: Bench) -> None:
    begun = bench.begin("1")
    with pytest.raises(
        IllegalEntry,
        match=f"version 1 of letters-tiny is on its way since entry {begun}",
    ):
        bench.begin("2")


def test_every_entry_of_a_release_is_followed(bench: Bench) -> None:
    bench.release("1")
    assert [type(entry) for entry in bench.ledger.entries()] == [Entry] * 5
