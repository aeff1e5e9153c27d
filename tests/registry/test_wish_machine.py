"""Wishes, kills, and events that are lost, doubled or late, in any order: against a small model.

Real are the ledger, the wish, the release's state machine and the brakes. `judge` is a table that
says which versions are fit, and the endpoint says what a test says.
"""

import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core.errors import AssayError, IllegalEntry
from pipelines.values.verdict import Candidate, Finding
from registry.ledger.chain import follow
from registry.ledger.entries import (
    Body,
    ReleaseAborted,
    ReleaseBegun,
    RolledBack,
    WishClosed,
    Wished,
)
from registry.ledger.ledger import Ledger, open_ledger
from registry.ledger.state import LedgerState, ModelState, RecordedWish
from registry.release import brakes
from registry.release.context import ChangeRequest, Patience, ReleaseContext
from registry.release.following import EngineState
from registry.release.granting import answer, goes_back, grant
from registry.release.release import (
    Stall,
    begin_release,
    drive_release,
    is_at_rest,
    next_entry,
)
from tests.support.fake_endpoint import MODEL, Bench, release_of, spec

FIT, LOADS = frozenset("1245"), frozenset("1235")
"""Version 3 is not fit, 4 passes and does not load."""
VERSIONS = st.sampled_from("12345")
RITA = ChangeRequest("rita", "it is better", "mlflow:rita")
OLGA = ChangeRequest("olga", "it is 3 am", "7 (olga)")
ROUNDS_TO_SETTLE, STEPS_A_ROUND = 6, 3
SECONDS_FOR_A_WISH = 0.5
QUICK = Patience(to_load=5.0, to_switch=5.0, to_brake=0.0, between_looks=0.001)


class Killed(BaseException):
    """The controller's process ended here."""


class MortalLedger(Ledger):
    """A controller's ledger, in which it is killed before or after one of its entries."""

    entries_left = 0
    dies_after_writing = False

    def append(self, body: Body, expected: LedgerState) -> LedgerState:
        if self.entries_left == 0 and not self.dies_after_writing:
            raise Killed
        result = super().append(body, expected)
        if self.entries_left == 0:
            raise Killed
        self.entries_left -= 1
        return result


class Wishes(RuleBasedStateMachine):
    """One model, five versions, a release manager, somebody on call, and controllers."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.bench = Bench(open_ledger(self.folder), obeys=True)
        # While it lags, the endpoint speaks of an older entry, as where its rings are lost.
        self.is_lagging = False

    # What people do.

    @rule(version=VERSIONS)
    def somebody_wishes(self, version: str) -> None:
        self._write(self._wished(version))

    @precondition(lambda self: self.model.wish is not None)
    @rule()
    def mlflow_gives_up_waiting(self) -> None:
        wish = self.model.wish
        assert wish is not None
        why = self.ledger.remember("nobody answered")
        self._write(WishClosed(wished=wish.generation, reason_sha256=why, by="rita"))

    @rule(version=VERSIONS, times=st.integers(1, 2))
    def somebody_wishes_and_the_ring_is_heard(self, version: str, times: int) -> None:
        self._write(self._wished(version))
        for _ in range(times):
            self._round(self.ledger)

    @rule(brake=st.sampled_from(("roll back", "base", "revoke", "freeze")))
    def somebody_brakes(self, brake: str) -> None:
        """Revoked is one of five alone: where all are, nothing can happen any more."""
        with suppress(AssayError):
            if brake == "roll back":
                brakes.roll_back(MODEL, None, OLGA, self.context)
            elif brake == "base":
                brakes.serve_base(MODEL, OLGA, self.context)
            elif brake == "revoke":
                brakes.revoke(MODEL, "5", OLGA, self.context, is_registered=True)
            else:
                self._freeze_for_a_while()

    def _freeze_for_a_while(self) -> None:
        brakes.freeze(OLGA, self.context)
        self._write(self._wished("1"))
        self._round(self.ledger)
        brakes.unfreeze(OLGA, self.context)

    # What machines do.

    @rule()
    def the_endpoint_has_loaded(self) -> None:
        self._load(self.bench)

    @rule()
    def the_endpoint_is_started_again(self) -> None:
        self.bench.engines.clear()

    @rule()
    def the_endpoint_hears_nothing(self) -> None:
        self.is_lagging = True
        self.bench.head = self.ledger.state().head

    @rule()
    def the_endpoint_hears_again(self) -> None:
        self._hear()

    @rule(times=st.sampled_from((1, 2)))
    def the_controller_is_rung(self, times: int) -> None:
        """Once, or doubled."""
        for _ in range(times):
            self._round(self.ledger)

    @rule(entries=st.integers(0, 3), after=st.booleans())
    def the_controller_is_rung_and_killed(self, entries: int, *, after: bool) -> None:
        mortal = MortalLedger(self.folder, self.ledger.database)
        mortal.entries_left, mortal.dies_after_writing = entries, after
        with suppress(Killed):
            self._round(mortal)

    @rule(entries=st.integers(0, 2))
    def another_controller_slept_and_goes_on(self, entries: int) -> None:
        """It works by a state that others have gone past; whatever it writes, it is told so."""
        other = open_ledger(self.folder)
        stale = other.state()
        for _ in range(entries):
            self._write(self._wished("1"))
        wish = stale.model(MODEL).wish
        if wish is not None:
            self._answer(other, wish)

    @rule()
    def the_thread_that_drives_goes_on_before_the_one_that_judges(self) -> None:
        self._drive(self.ledger)

    # What must hold of the end, whatever came before.

    @precondition(lambda self: self.model.pending is not None)
    @rule(version=VERSIONS)
    def a_wish_replaces_what_loads_where_it_is_fit(self, version: str) -> None:
        self._hear()
        loading = self.model.pending
        assert loading is not None
        served = {each.release.version for each in self.model.once_served}
        is_taken = version in {loading.release.version, *served, *self.model.revoked}
        if is_taken or loading.begun in self.bench.engines:
            return
        self._write(self._wished(version))
        self._drive(self.ledger)
        self._round(self.ledger)
        pending = self.model.pending
        assert pending is not None
        expected = version if version in FIT else loading.release.version
        assert pending.release.version == expected

    @rule(version=VERSIONS)
    def a_wish_in_quiet_is_granted_or_changes_nothing(self, version: str) -> None:
        self._settle()
        before = self.model
        is_barred = self.ledger.state().frozen is not None or version in before.revoked
        self._write(self._wished(version))
        self._settle()
        served = version in {each.release.version for each in before.once_served}
        is_good = served or version in FIT & LOADS
        if is_good and not is_barred:
            assert self.bench.traffic() == (version, False)
        else:
            assert self._traffic_of(self.model) == self._traffic_of(before)

    def teardown(self) -> None:
        self._settle()
        shutil.rmtree(self.folder)

    @invariant()
    def nothing_unfit_or_revoked_has_traffic(self) -> None:
        version, serves_base = self.bench.traffic()
        if version is not None and not serves_base:
            assert version in FIT
            assert version not in self.model.revoked

    @invariant()
    def every_wish_has_one_answer_at_most(self) -> None:
        answered = [
            entry.body.wished
            for entry in self.ledger.entries()
            if isinstance(
                entry.body, ReleaseBegun | RolledBack | ReleaseAborted | WishClosed
            )
            and entry.body.wished is not None
        ]
        assert len(answered) == len(set(answered))

    @invariant()
    def what_is_granted_is_what_was_asked_last(self) -> None:
        last_wish = None
        for entry in self.ledger.entries():
            if isinstance(entry.body, Wished):
                last_wish = entry.generation
            granted = getattr(entry.body, "wished", None)
            if granted is not None:
                assert granted == last_wish

    @invariant()
    def a_wish_for_what_is_not_fit_stops_nothing(self) -> None:
        for entry in self.ledger.entries():
            body = entry.body
            if isinstance(body, ReleaseAborted):
                reason = self.ledger.recall(body.reason_sha256) or ""
                assert "wished for version 3" not in reason

    # How it is done.

    @property
    def ledger(self) -> Ledger:
        return self.bench.ledger

    @property
    def model(self) -> ModelState:
        return self.ledger.state().model(MODEL)

    @property
    def context(self) -> ReleaseContext:
        return replace(self.bench.context, patience=QUICK)

    def _traffic_of(self, model: ModelState) -> tuple[int | None, bool]:
        begun = None if model.current is None else model.current.begun
        return begun, model.serves_base

    def _wished(self, version: str) -> Wished:
        why = self.ledger.remember(RITA.reason)
        return Wished(
            by=RITA.by,
            account=RITA.account,
            reason_sha256=why,
            model=MODEL,
            version=version,
            package_sha256=version * 64,
        )

    def _write(self, body: Body) -> None:
        # Frozen, revoked, or answered in the meantime.
        with suppress(IllegalEntry):
            self.ledger.append(body, self.ledger.state())

    def _load(self, bench: Bench) -> None:
        """Load what is on its way, or fail to. In quiet times it is done at each ring."""
        pending = self.model.pending
        if self.is_lagging or pending is None:
            return
        loads = pending.release.version in LOADS
        bench.engines[pending.begun] = EngineState(
            begun=pending.begun, state="ready" if loads else "failed", detail="it loops"
        )

    def _hear(self) -> None:
        self.is_lagging = False
        self.bench.head = None

    def _settle(self) -> None:
        """Nobody does anything, nothing is lost: everything comes to an end soon."""
        self._hear()
        self.bench.on_ring = self._load
        for _ in range(ROUNDS_TO_SETTLE):
            self._round(self.ledger)
        self.bench.on_ring = lambda _: None
        assert self.model.wish is None
        assert is_at_rest(self.model)
        # Whoever reads it from its beginning comes to the same.
        whole = follow(None, self.ledger.iterate_entries())
        assert whole == self.ledger.state()

    def _round(self, ledger: Ledger) -> None:
        """What the controller's threads do, one after the other."""
        wish = ledger.state().model(MODEL).wish
        if wish is not None:
            self._answer(ledger, wish)
        self._drive(ledger)

    def _drive(self, ledger: Ledger) -> None:
        """Some looks at what is on its way."""
        context = self._context_of(ledger)
        for _ in range(STEPS_A_ROUND):
            state, endpoint_state = ledger.state(), context.endpoint.ring()
            if is_at_rest(state.model(MODEL)):
                return
            body = next_entry(state, MODEL, endpoint_state, Stall(0.0, context))
            if body is not None:
                ledger.append(body, state)

    def _answer(self, ledger: Ledger, wish: RecordedWish) -> None:
        # As long as whoever asked waits.
        patience = replace(QUICK, until=time.monotonic() + SECONDS_FOR_A_WISH)
        context = replace(self._context_of(ledger), patience=patience)
        order = replace(RITA, wished=wish.generation)

        def release(order: ChangeRequest) -> str:
            return self._release(wish.version, order, context)

        answer(MODEL, wish, ledger, lambda: grant(MODEL, wish, order, context, release))

    def _release(
        self, version: str, order: ChangeRequest, context: ReleaseContext
    ) -> str:
        """As `begin_promotion` does it, with a table in the place of the evidence."""
        ledger = context.ledger
        if ledger.state().model(MODEL).pending is not None:
            self._judge(ledger, version)
        if version not in FIT:
            return f"version {version} is not fit"
        drive_release(MODEL, context, waits=False)
        judged = self._judge(ledger, version)
        begin_release(candidate(version), judged, order, context)
        return ""

    def _judge(self, ledger: Ledger, version: str) -> int:
        verdict = "passed" if version in FIT else "rejected"
        return replace(self.bench, ledger=ledger).judge(version, verdict)

    def _context_of(self, ledger: Ledger) -> ReleaseContext:
        return replace(self.context, ledger=ledger)


def candidate(version: str) -> Candidate:
    passed = Finding(rule="screen", outcome="passed", text="It did.")
    return Candidate(
        findings=(passed,),
        policy_sha256="e" * 64,
        model=MODEL,
        version=version,
        package_sha256=release_of(version).package_sha256,
        spec=spec(version),
        known_answers_share=1.0,
    )


def run_machine(**limits: Any) -> None:
    profile = settings(
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # A history of so few steps is read as it is; to shorten it takes minutes.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        **limits,
    )
    run_state_machine_as_test(Wishes, settings=profile)


@pytest.mark.ci
def test_wishes_come_to_their_end_whatever_is_lost_doubled_or_killed() -> None:
    run_machine(max_examples=30, stateful_step_count=20)


@pytest.mark.slow
def test_wishes_come_to_their_end_in_long_histories() -> None:
    run_machine(max_examples=300, stateful_step_count=50)


def test_the_machine_of_this_test_can_go_back() -> None:
    """Each way of a wish is walked by hand, so that a machine that tests nothing would show."""
    machine = Wishes()
    machine.a_wish_in_quiet_is_granted_or_changes_nothing("1")
    machine.a_wish_in_quiet_is_granted_or_changes_nothing("2")
    machine.somebody_wishes("1")
    assert goes_back(machine.ledger.state(), MODEL)
    machine.a_wish_in_quiet_is_granted_or_changes_nothing("3")
    assert machine.bench.traffic() == ("1", False)
    machine.a_wish_in_quiet_is_granted_or_changes_nothing("4")
    assert machine.bench.traffic() == ("1", False)
    machine.teardown()
