"""Several endpoints, as a release sees them: what too few of them say is not so."""

from dataclasses import dataclass, replace

import pytest

from core.errors import ReleaseError
from pipelines.values.verdict import Candidate, Finding
from registry.ledger.entries import Head
from registry.release.brakes import roll_back
from registry.release.canary_counts import CanaryReport, no_counts
from registry.release.following import ALL, EndpointState, EngineState, Route
from registry.release.release import drive_release, find_outcome, release
from registry.release.replicas import (
    LEASE,
    LONGEST_SILENCE,
    SEVERAL,
    Replica,
    describe_lost,
    find_living,
    merge,
    needed_of,
)
from tests.support.fake_endpoint import MODEL, WHY, Bench, spec

OLD = Route(begun=3, serves_base=False, fingerprint="fp_old")
NEW = Route(begun=9, serves_base=False, fingerprint="fp_new")


def head(generation: int) -> Head:
    return Head(ledger_id="1" * 64, generation=generation, hash=f"{generation:064x}")


def replica(
    name: str,
    generation: int | None = 10,
    route: Route | None = NEW,
    engine: str = "ready",
    *alarms: str,
) -> Replica:
    state = EndpointState(
        head=None if generation is None else head(generation),
        engines=(EngineState.model_validate({"begun": 9, "state": engine}),),
        routes={} if route is None else {"letters": route},
        alarms=alarms,
    )
    return Replica(name, state)


def merged(*replicas: Replica, quorum: int = 100) -> EndpointState:
    return merge(replicas, quorum)


def test_a_head_is_followed_once_enough_replicas_have_come_so_far() -> None:
    three = (replica("a", 12), replica("b", 11), replica("c", 10))
    assert merged(*three).head == head(10)
    assert merged(*three, quorum=60).head == head(11)
    assert merged(*three, quorum=30).head == head(12)


def test_a_replica_that_has_followed_nothing_holds_up_all_others() -> None:
    two = (replica("a"), replica("b", None))
    assert merged(*two).head is None
    assert merged(*two, quorum=50).head == head(10)


def test_a_route_counts_where_enough_replicas_answer_by_it() -> None:
    behind = replica("c", route=OLD)
    three = (replica("a"), replica("b"), behind)
    assert merged(*three).routes == {"letters": SEVERAL}
    assert merged(*three, quorum=60).routes == {"letters": NEW}
    assert merged(replica("a"), replica("b")).routes == {"letters": NEW}


def test_a_replica_that_answers_nothing_under_a_name_counts_as_another_route() -> None:
    two = (replica("a"), replica("b", route=None))
    assert merged(*two).routes == {"letters": SEVERAL}
    assert merged(replica("b", route=None)).routes == {}


def test_what_a_replica_at_another_entry_reports_does_not_count() -> None:
    # It may be of a release of the same number that was never begun here.
    ahead = replica("b", 12, route=NEW)
    assert merged(replica("a", 10, route=OLD), ahead).routes == {"letters": SEVERAL}
    assert merged(replica("a", 10, route=OLD), ahead).head == head(10)


@pytest.mark.parametrize(
    ("engines", "quorum", "state"),
    [
        (("ready", "ready", "ready"), 100, "ready"),
        (("ready", "ready", "loading"), 100, "loading"),
        (("ready", "ready", "loading"), 60, "ready"),
        (("ready", "ready", "failed"), 100, "failed"),
        (("ready", "ready", "failed"), 60, "ready"),
        (("ready", "loading", "failed"), 60, "loading"),
        (("loading", "failed", "failed"), 60, "failed"),
    ],
)
def test_an_engine_is_as_far_as_enough_replicas_have_it(
    engines: tuple[str, ...], quorum: int, state: str
) -> None:
    replicas = [
        replica(name, engine=engine)
        for name, engine in zip("abc", engines, strict=True)
    ]
    engine = merge(replicas, quorum).engine(9)
    assert engine is not None
    assert engine.state == state


def test_a_failure_and_an_alarm_name_their_replica() -> None:
    state = EndpointState(
        head=head(10),
        engines=(EngineState(begun=9, state="failed", detail="its file is damaged"),),
        alarms=("the disk is full",),
    )
    result = merged(replica("a"), Replica("pod-7", state))
    engine = result.engine(9)
    assert engine is not None
    assert engine.detail == "pod-7: its file is damaged"
    assert result.alarms == ("pod-7: the disk is full",)


@pytest.mark.parametrize(
    ("number", "quorum", "needed"),
    [(3, 100, 3), (3, 67, 3), (3, 66, 2), (3, 51, 2), (10, 70, 7), (1, 51, 1)],
)
def test_a_quorum_of_replicas_is_rounded_up(
    number: int, quorum: int, needed: int
) -> None:
    assert needed_of(number, quorum) == needed


def test_what_others_wait_for_is_said_of_each() -> None:
    far = replica("a", 12)
    behind = replica("b", 10)
    loading = replica("c", 12, engine="loading")
    assert merged(far, behind, loading).laggards == (
        "b is at entry 10, not at 12",
        "c still loads the release of entry 9",
    )
    assert merged(far).laggards == ()


def test_a_canary_is_counted_on_the_replica_that_is_asked_most() -> None:
    def counting(name: str, requests: int) -> Replica:
        report = CanaryReport(
            begun=9,
            step_requests=requests,
            candidate=no_counts(),
            baseline=no_counts(),
        )
        state = EndpointState(head=head(10), canaries=(report,))
        return Replica(name, state)

    state = merged(counting("a", 3), counting("b", 40), counting("c", 5))
    assert [report.step_requests for report in state.canaries] == [40]


def silent(name: str, seconds: float, lease: float = LEASE) -> Replica:
    return replace(replica(name), seconds_ago=seconds, lease=lease)


def living(*replicas: Replica) -> list[str]:
    return [each.name for each in find_living(replicas)]


def test_a_replica_that_is_silent_while_others_report_counts_for_its_lease() -> None:
    assert living(silent("a", 0.5), silent("b", LEASE)) == ["a", "b"]
    assert living(silent("a", 0.5), silent("b", LEASE + 1)) == ["a"]
    # One that becomes unready after 30 s gets requests until then.
    assert living(silent("a", 0.5), silent("b", LEASE + 1, lease=40)) == ["a", "b"]


def test_where_all_are_silent_it_was_the_database_and_none_is_lost_for_that() -> None:
    # Otherwise a release would be complete that hardly anybody has heard of.
    assert living(silent("a", 50), silent("b", 50.5)) == ["a", "b"]
    assert living(silent("a", 50), silent("b", 51 + LEASE)) == ["a"]
    assert living(silent("a", LONGEST_SILENCE + 1)) == []
    assert living() == []


def test_a_lost_replica_is_named_with_the_entry_that_it_may_answer_by() -> None:
    sentence = describe_lost(silent("pod-2", 34))
    assert "pod-2 reports no more" in sentence
    assert "answers by entry 10" in sentence


@dataclass
class Several:
    """Three replicas that follow the ledger at once; the late ones load for ever."""

    bench: Bench
    late: str = ""

    def ring(self, quorum: int = ALL) -> EndpointState:
        return merge([self._replica(name) for name in "abc"], quorum)

    def state(self) -> EndpointState:
        return self.ring()

    def _replica(self, name: str) -> Replica:
        ledger_state = self.bench.ledger.state()
        model = ledger_state.model(MODEL)
        wanted = model.pending or model.current
        is_late = name in self.late
        engines = []
        if wanted is not None:
            state = "loading" if is_late else "ready"
            engines.append(
                EngineState.model_validate({"begun": wanted.begun, "state": state})
            )
        current = model.before if is_late else model.current
        routes = {}
        if current is not None:
            routes[MODEL] = Route(
                begun=current.begun,
                serves_base=False,
                fingerprint=current.release.fingerprint,
            )
        return Replica(
            name,
            EndpointState(
                head=ledger_state.head, engines=tuple(engines), routes=routes
            ),
        )


def test_a_release_is_complete_once_its_quorum_answers_with_it(bench: Bench) -> None:
    candidate = Candidate(
        findings=(Finding(rule="screen", outcome="passed", text="It did."),),
        policy_sha256="e" * 64,
        model=MODEL,
        version="1",
        package_sha256="1" * 64,
        spec=spec("1"),
        known_answers_share=1.0,
        replica_quorum=66,
    )
    context = replace(bench.context, endpoint=Several(bench, late="c"))
    completed = release(candidate, bench.judge("1"), WHY, context)
    assert completed.is_completed
    assert completed.release.replica_quorum == 66


def test_without_a_quorum_all_are_waited_for_and_the_reason_names_who_was_late(
    bench: Bench,
) -> None:
    begun = bench.begin("1")
    context = replace(bench.context, endpoint=Several(bench, late="c"))
    drive_release(MODEL, context)
    with pytest.raises(
        ReleaseError, match=f"c still loads the release of entry {begun}"
    ):
        find_outcome(bench.ledger, MODEL, begun)


def test_a_brake_has_to_be_obeyed_by_all_whatever_the_quorum_of_a_release(
    bench: Bench,
) -> None:
    for version in ("1", "2"):
        begun = bench.begin(version, quorum=51)
        context = replace(bench.context, endpoint=Several(bench))
        drive_release(MODEL, context)
        assert find_outcome(bench.ledger, MODEL, begun).is_completed
    late = replace(bench.context, endpoint=Several(bench, late="b"))
    with pytest.raises(ReleaseError, match=r"not yet.*b still loads"):
        roll_back(MODEL, None, WHY, late)
    roll_back(MODEL, "2", WHY, replace(late, endpoint=Several(bench)))
