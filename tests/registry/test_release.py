"""The release as a state machine: what follows from the ledger and from what the endpoint says, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipelines.errors import IllegalEntry, LedgerError, ReleaseError, ServingError
from pipelines.serving_spec import ServingSpec
from registry.entries import (
    BaseServed,
    Body,
    Entry,
    Head,
    Judged,
    Release,
    ReleaseAborted,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    RolledBack,
)
from registry.following import EndpointState, EngineState, Route
from registry.ledger import Ledger, open_ledger
from registry.release import (
    Desk,
    Order,
    Patience,
    Waited,
    carry_on,
    freeze,
    is_at_rest,
    next_entry,
    revoke,
    roll_back,
    serve_base,
    unfreeze,
)
from registry.standing import Standing

MODEL = "letters-tiny"
WHY = Order("ann", "because")


def spec(version: str) -> ServingSpec:
    return ServingSpec(
        base_digest="b" * 64,
        adapter_sha256=version * 64,
        chat_template_sha256="c" * 64,
        engine="transformers",
        engine_version="5",
        precision="float32",
        default_max_tokens=24,
    )


@dataclass
class Bench:
    """A real ledger, and an endpoint that is what a test says: the state machine knows of it no more than these values."""

    ledger: Ledger
    engines: dict[int, EngineState] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    head: Head | None = None
    obeys: bool = False
    """What answers is what the ledger says, as where an endpoint has everything loaded."""
    on_ring: Callable[["Bench"], None] = lambda _: None

    def ring(self) -> EndpointState:
        self.on_ring(self)
        return self.state()

    def state(self) -> EndpointState:
        head = self.head or self.ledger.standing().head
        return EndpointState(head=head, engines=tuple(self.engines.values()), routes=self._obeyed() if self.obeys else self.routes)

    def _obeyed(self) -> dict[str, Route]:
        model = self.ledger.standing().model(MODEL)
        held = model.once_served[-1] if model.once_served else None
        current = model.current or held
        if current is None:
            return {}
        return {MODEL: Route(begun=current.begun, serves_base=model.serves_base, fingerprint=current.release.fingerprint)}

    @property
    def desk(self) -> Desk:
        return Desk(self.ledger, self, Patience(to_load=0.3, to_switch=0.3, to_brake=0.1, between_looks=0.01))

    def judged(self, version: str, verdict: str = "passed") -> int:
        body = Judged.model_validate(
            {
                "model": MODEL,
                "version": version,
                "package_sha256": version * 64,
                "verdict": verdict,
                "verdict_sha256": "d" * 64,
                "policy_sha256": "e" * 64,
            }
        )
        return self.write(body).head.generation

    def begin(self, version: str) -> int:
        release = Release(model=MODEL, version=version, package_sha256=version * 64, spec=spec(version), known_answers_share=1.0)
        why = self.ledger.remember(WHY.reason)
        return self.write(ReleaseBegun(release=release, judged=self.judged(version), by=WHY.by, reason_sha256=why)).head.generation

    def released(self, version: str) -> int:
        begun = self.begin(version)
        self.write(ReleaseSwitched(begun=begun))
        self.write(ReleaseCompleted(begun=begun))
        return begun

    def write(self, body: Body) -> Standing:
        return self.ledger.append(body, self.ledger.standing())

    def answers(self, begun: int) -> None:
        self.engines[begun] = EngineState(begun=begun, state="ready")
        self.routes[MODEL] = Route(begun=begun, serves_base=False, fingerprint="fp")

    def next(self, seconds: float = 0.0) -> Body | None:
        return next_entry(self.ledger.standing(), MODEL, self.state(), Waited(seconds, self.desk))

    def here(self) -> tuple[str | None, bool]:
        model = self.ledger.standing().model(MODEL)
        return (None if model.current is None else model.current.release.version), model.serves_base

    @property
    def kinds(self) -> list[str]:
        return [entry.body.kind for entry in self.ledger.entries()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(open_ledger(tmp_path / "home"))


def test_nothing_on_its_way_is_nothing_to_do(bench: Bench) -> None:
    assert bench.next() is None
    carry_on(MODEL, bench.desk)
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
    bench.engines[begun] = EngineState(begun=begun, state="failed", detail="2 of 8 known answers")
    body = bench.next()
    assert isinstance(body, ReleaseAborted)
    assert bench.ledger.recall(body.reason_sha256) == "2 of 8 known answers"


def test_an_engine_that_is_never_ready_aborts(bench: Bench) -> None:
    bench.begin("1")
    assert bench.next(seconds=0.29) is None
    assert isinstance(bench.next(seconds=0.31), ReleaseAborted)


def test_what_an_endpoint_says_of_another_ledger_counts_for_nothing(bench: Bench) -> None:
    begun = bench.begin("1")
    bench.engines[begun] = EngineState(begun=begun, state="ready")
    here = bench.ledger.standing().head
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
    first = bench.released("1")
    begun = bench.begin("2")
    bench.write(ReleaseSwitched(begun=begun))
    bench.routes[MODEL] = Route(begun=first, serves_base=False, fingerprint="fp")
    assert bench.next() is None
    bench.routes[MODEL] = Route(begun=begun, serves_base=True, fingerprint="fp")
    assert bench.next() is None
    bench.routes[MODEL] = Route(begun=begun, serves_base=False, fingerprint="fp")
    assert bench.next() == ReleaseCompleted(begun=begun)


def test_a_switch_that_never_answers_goes_back_to_what_served(bench: Bench) -> None:
    first = bench.released("1")
    begun = bench.begin("2")
    bench.write(ReleaseSwitched(begun=begun))
    body = bench.next(seconds=1)
    assert isinstance(body, RolledBack)
    assert body.to == first


def test_a_first_switch_that_never_answers_goes_to_the_base(bench: Bench) -> None:
    bench.write(ReleaseSwitched(begun=bench.begin("1")))
    assert isinstance(bench.next(seconds=1), BaseServed)


@pytest.mark.parametrize("cut", ["begun", "switched"])
def test_whoever_comes_next_carries_a_release_to_its_end(bench: Bench, cut: str) -> None:
    begun = bench.begin("1")
    if cut == "switched":
        bench.write(ReleaseSwitched(begun=begun))
    bench.answers(begun)
    carry_on(MODEL, bench.desk)
    assert is_at_rest(bench.ledger.standing().model(MODEL))
    assert bench.here() == ("1", False)
    assert bench.kinds[-2:] == ["release_switched", "release_completed"]


def test_two_drivers_at_once_write_each_step_once(bench: Bench, tmp_path: Path) -> None:
    begun = bench.begin("1")
    bench.answers(begun)
    other = replace(bench, ledger=open_ledger(tmp_path / "home"), on_ring=lambda _: None)
    raced: list[str] = []

    def race(_: Bench) -> None:
        if not raced:
            raced.append("once")
            carry_on(MODEL, other.desk)

    bench.on_ring = race
    carry_on(MODEL, bench.desk)
    assert bench.kinds.count("release_switched") == bench.kinds.count("release_completed") == 1


def test_a_freeze_in_the_middle_stops_a_release(bench: Bench) -> None:
    begun = bench.begin("1")

    def at_night(each: Bench) -> None:
        if each.ledger.standing().frozen is None:
            freeze(WHY, replace(each.desk, endpoint=replace(each, on_ring=lambda _: None)))

    bench.on_ring = at_night
    carry_on(MODEL, bench.desk)
    assert bench.here() == (None, False)
    bench.on_ring = lambda _: None
    with pytest.raises(IllegalEntry, match="frozen"):
        bench.begin("1")
    unfreeze(WHY, bench.desk)
    assert bench.begin("1") > begun


def test_a_rollback_goes_to_what_served_before_and_then_further_back(bench: Bench) -> None:
    bench.obeys = True
    for version in ("1", "2", "3"):
        bench.released(version)
    for wanted in ("2", "1"):
        roll_back(MODEL, None, WHY, bench.desk)
        assert bench.here() == (wanted, False)
    with pytest.raises(ReleaseError, match="Nothing of letters-tiny served before"):
        roll_back(MODEL, None, WHY, bench.desk)


def test_a_rollback_to_a_version_that_never_served_is_refused(bench: Bench) -> None:
    bench.released("1")
    bench.begin("2")
    with pytest.raises(ReleaseError, match="Version 2 of letters-tiny never served"):
        roll_back(MODEL, "2", WHY, bench.desk)


def test_a_version_that_was_gone_back_from_can_serve_again(bench: Bench) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.released(version)
    roll_back(MODEL, None, WHY, bench.desk)
    roll_back(MODEL, "2", WHY, bench.desk)
    assert bench.here() == ("2", False)
    roll_back(MODEL, None, WHY, bench.desk)
    assert bench.here() == ("1", False)


def test_going_back_from_the_base_is_to_what_served_before_it(bench: Bench) -> None:
    bench.obeys = True
    bench.released("1")
    serve_base(MODEL, WHY, bench.desk)
    assert bench.here() == ("1", True)
    roll_back(MODEL, None, WHY, bench.desk)
    assert bench.here() == ("1", False)


def test_a_revoked_version_gives_way_and_never_comes_back(bench: Bench) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.released(version)
    revoke(MODEL, "2", WHY, bench.desk)
    assert bench.here() == ("1", False)
    with pytest.raises(LedgerError, match="revoked"):
        roll_back(MODEL, "2", WHY, bench.desk)
    with pytest.raises(LedgerError, match="revoked"):
        bench.begin("2")
    revoke(MODEL, "1", WHY, bench.desk)
    assert bench.here() == (None, True)


def test_brakes_work_while_frozen(bench: Bench) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.released(version)
    freeze(WHY, bench.desk)
    roll_back(MODEL, None, WHY, bench.desk)
    serve_base(MODEL, WHY, bench.desk)
    assert bench.here() == ("1", True)


def test_a_brake_with_the_endpoint_away_is_in_the_ledger_and_says_so(bench: Bench, tmp_path: Path) -> None:
    for version in ("1", "2"):
        bench.released(version)
    from serving.client import endpoint_client

    away = replace(bench.desk, endpoint=endpoint_client(tmp_path / "home"))
    with pytest.raises(ServingError, match="It is in the ledger"):
        roll_back(MODEL, None, WHY, away)
    assert bench.here() == ("1", False)


def test_a_brake_that_is_not_obeyed_yet_is_no_success(bench: Bench) -> None:
    for version in ("1", "2"):
        bench.released(version)
    bench.routes[MODEL] = Route(begun=9, serves_base=False, fingerprint=spec("2").fingerprint)
    with pytest.raises(ReleaseError, match=f"not yet: {spec('2').fingerprint} answers under {MODEL} still"):
        roll_back(MODEL, None, WHY, bench.desk)
    assert bench.here() == ("1", False)


def test_a_brake_that_the_endpoint_has_not_followed_to_is_no_success(bench: Bench) -> None:
    bench.released("1")
    bench.head = bench.ledger.standing().head
    with pytest.raises(ReleaseError, match="has not followed"):
        serve_base(MODEL, WHY, bench.desk)
    assert bench.here() == ("1", True)


def test_a_freeze_holds_with_the_endpoint_away(bench: Bench, tmp_path: Path) -> None:
    from serving.client import endpoint_client

    freeze(WHY, replace(bench.desk, endpoint=endpoint_client(tmp_path / "home")))
    with pytest.raises(IllegalEntry, match="frozen"):
        bench.begin("1")


@pytest.mark.parametrize("brake", [lambda desk: roll_back(MODEL, None, WHY, desk), lambda desk: serve_base(MODEL, WHY, desk)])
def test_where_nothing_was_ever_released_a_brake_says_so(bench: Bench, brake: Callable[[Desk], Standing]) -> None:
    with pytest.raises(ReleaseError, match="was ever released"):
        brake(bench.desk)
    assert bench.kinds == ["opened"]


def test_going_back_while_a_release_is_on_its_way_aborts_it_and_no_more(bench: Bench) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.released(version)
    bench.begin("3")
    roll_back(MODEL, None, WHY, bench.desk)
    assert bench.here() == ("2", False)
    assert bench.ledger.standing().model(MODEL).pending is None
    roll_back(MODEL, None, WHY, bench.desk)
    assert bench.here() == ("1", False)


@pytest.mark.parametrize("brake", ["rollback", "serve_base", "revoke", "release"])
def test_a_verdict_from_before_a_change_of_what_serves_begins_nothing(bench: Bench, brake: str) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.released(version)
    judged = bench.judged("3")
    if brake == "rollback":
        roll_back(MODEL, None, WHY, bench.desk)
    elif brake == "serve_base":
        serve_base(MODEL, WHY, bench.desk)
    elif brake == "revoke":
        revoke(MODEL, "2", WHY, bench.desk)
    else:
        bench.released("4")
    release = Release(model=MODEL, version="3", package_sha256="3" * 64, spec=spec("3"), known_answers_share=1.0)
    with pytest.raises(IllegalEntry, match="what serves was changed"):
        bench.write(ReleaseBegun(release=release, judged=judged, by="ann", reason_sha256="0" * 64))


def test_a_model_that_the_ledger_does_not_know_cannot_be_revoked(bench: Bench) -> None:
    bench.released("1")
    with pytest.raises(ReleaseError, match=f"knows no model typo, only {MODEL}"):
        revoke("typo", "1", WHY, bench.desk)


def test_an_endpoint_that_loads_a_release_once_more_after_its_switch_is_waited_for(bench: Bench) -> None:
    bench.released("1")
    begun = bench.begin("2")
    bench.write(ReleaseSwitched(begun=begun))
    bench.engines[begun] = EngineState(begun=begun, state="loading")
    desk = replace(bench.desk, patience=Patience(to_load=10, to_switch=0.3))
    assert next_entry(bench.ledger.standing(), MODEL, bench.state(), Waited(5, desk)) is None
    assert isinstance(next_entry(bench.ledger.standing(), MODEL, bench.state(), Waited(11, desk)), RolledBack)


@pytest.mark.parametrize("verdict", ["rejected", "undecided"])
def test_nothing_that_judge_did_not_pass_begins(bench: Bench, verdict: str) -> None:
    release = Release(model=MODEL, version="1", package_sha256="1" * 64, spec=spec("1"), known_answers_share=1.0)
    generation = bench.judged("1", verdict)
    with pytest.raises(IllegalEntry, match="no passed verdict"):
        bench.write(ReleaseBegun(release=release, judged=generation, by="ann", reason_sha256="0" * 64))


def test_a_verdict_on_other_bytes_begins_nothing(bench: Bench) -> None:
    release = Release(model=MODEL, version="1", package_sha256="9" * 64, spec=spec("1"), known_answers_share=1.0)
    generation = bench.judged("1")
    with pytest.raises(IllegalEntry, match="other bytes"):
        bench.write(ReleaseBegun(release=release, judged=generation, by="ann", reason_sha256="0" * 64))


def test_of_two_releases_at_once_the_second_is_told_who_is_first(bench: Bench) -> None:
    begun = bench.begin("1")
    with pytest.raises(IllegalEntry, match=f"version 1 of letters-tiny is on its way since entry {begun}"):
        bench.begin("2")


def test_every_entry_of_a_release_is_followed(bench: Bench) -> None:
    bench.released("1")
    assert [type(entry) for entry in bench.ledger.entries()] == [Entry] * 5
