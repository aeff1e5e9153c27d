"""What comes next in a canary, by what an endpoint counts."""

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.errors import IllegalEntry, ReleaseError
from operations.unfinished import finish_release
from pipelines.values.canary import CanaryPlan
from pipelines.values.verdict import Candidate, Finding
from registry.ledger.entries import (
    Body,
    CanaryPaused,
    CanaryResumed,
    CanarySkipped,
    CanaryStep,
    ReleaseAborted,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    RolledBack,
    Wished,
)
from registry.ledger.ledger import open_ledger
from registry.release.brakes import roll_back
from registry.release.canary import describe_canary
from registry.release.canary_series import read_looks
from registry.release.context import ChangeRequest, Patience
from registry.release.following import EndpointState, EngineState, Route
from registry.release.people import DEFAULT, People, Person
from registry.release.release import (
    Stall,
    drive_release,
    is_at_rest,
    next_entry,
    release,
)
from registry.release.skipping import skip_canary
from tests.support.canaries import counts, plan, report
from tests.support.fake_endpoint import MODEL, WHY, Bench, release_of, spec

DEFAULTS: dict[str, object] = {"bake_s": 60}


@pytest.fixture
def serving(bench: Bench) -> Bench:
    """Version 1 serves."""
    bench.release("1")
    return bench


def begin(bench: Bench, canary: CanaryPlan | None = None) -> int:
    """Begin version 2, whose engine is ready."""
    begun = bench.begin("2", canary or plan(**DEFAULTS))
    bench.engines[begun] = EngineState(begun=begun, state="ready")
    return begun


def step(bench: Bench) -> int | None:
    pending = bench.ledger.state().model(MODEL).pending
    assert pending is not None
    assert pending.canary is not None
    return pending.canary.step


def count(bench: Bench, begun: int, **fields: Any) -> None:
    bench.canaries = (report(begun, step(bench), **fields),)


def at_weight(bench: Bench, *weights: int, canary: CanaryPlan | None = None) -> int:
    begun = begin(bench, canary)
    for weight in weights:
        bench.write(CanaryStep(begun=begun, weight=weight))
    return begun


def why(bench: Bench, body: Body | None) -> str:
    assert isinstance(body, ReleaseAborted | RolledBack)
    return recall(bench, body.reason_sha256)


def recall(bench: Bench, digest: str) -> str:
    text = bench.ledger.recall(digest)
    assert text is not None
    return text


def test_a_good_candidate_goes_from_weight_to_weight_and_its_counts_are_kept(
    serving: Bench,
) -> None:
    begun = begin(serving)
    count(serving, begun)
    body = serving.next()
    assert body == CanaryStep(begun=begun, weight=5)
    serving.write(body)
    count(serving, begun)
    body = serving.next()
    assert isinstance(body, CanaryStep)
    assert (body.weight, body.evidence_sha256 is not None) == (25, True)
    serving.write(body)
    count(serving, begun)
    body = serving.next()
    assert isinstance(body, ReleaseSwitched)
    assert body.evidence_sha256 is not None
    assert '"step_requests":100' in recall(serving, body.evidence_sha256)


def test_a_canary_begins_once_its_baseline_is_as_ready_as_the_candidate(
    serving: Bench,
) -> None:
    begun = begin(serving)
    assert serving.next() is None
    count(serving, begun, baseline_phase="loading")
    assert serving.next() is None
    assert "not ready after" in why(serving, serving.next(seconds=1))
    count(serving, begun, baseline_phase="none")
    assert isinstance(serving.next(), CanaryStep)


@pytest.mark.parametrize("weights", [(), (5,)])
def test_a_canary_without_its_baseline_is_aborted(
    serving: Bench, weights: tuple[int, ...]
) -> None:
    begun = at_weight(serving, *weights)
    count(serving, begun, baseline_phase="failed", baseline_detail="out of memory")
    assert "compared with ended: out of memory" in why(serving, serving.next())


@pytest.mark.parametrize(
    "fields",
    [
        {"step_seconds": 59.9},
        {"step_requests": 49},
        {"candidate": counts(100), "baseline": counts(100)},
    ],
)
def test_a_step_waits_for_its_time_its_requests_and_what_is_to_be_shown(
    serving: Bench, fields: dict[str, Any]
) -> None:
    begun = at_weight(serving, 5)
    count(serving, begun, **fields)
    assert serving.next() is None


def test_a_step_with_just_enough_time_and_requests_is_over(serving: Bench) -> None:
    begun = at_weight(serving, 5)
    count(serving, begun, step_seconds=60.0, step_requests=50)
    assert isinstance(serving.next(), CanaryStep)


@pytest.mark.parametrize(
    ("worse", "fact"),
    [
        (counts(30, errors=20), "errors in 40.0% of 50 against 0.0% of 300"),
        (counts(40, text=""), "empties in 100.0% of 40 against 0.0% of 300"),
        (counts(40, text="I'm sorry, I cannot help."), "refusals in 100.0%"),
        (counts(60, text="again and again " * 30), "repetition in 100.0%"),
        (counts(60, seconds=0.9), "latency over 0.453 s in 100.0% of 60"),
        (counts(60, text="wörter " + "äöü" * 900), "length over"),
        (counts(60, memory=523.0), "memory grew by 523 MB against 10 MB"),
    ],
)
def test_a_candidate_that_is_worse_is_aborted_with_both_numbers(
    serving: Bench, worse: Any, fact: str
) -> None:
    begun = at_weight(serving, 5)
    count(serving, begun, candidate=worse, step_seconds=2.0)
    assert fact in why(serving, serving.next())
    assert "worse at 5 % of the requests" in why(serving, serving.next())


def test_a_candidate_that_is_better_is_not_aborted(serving: Bench) -> None:
    begun = at_weight(serving, 5)
    count(serving, begun, baseline=counts(seconds=5, errors=100, memory=900.0))
    assert isinstance(serving.next(), CanaryStep)


def test_a_candidate_that_answers_otherwise_than_it_was_scored_is_aborted(
    serving: Bench,
) -> None:
    begun = at_weight(serving, 5)
    count(serving, begun, replay="running")
    assert serving.next() is None
    count(serving, begun, replay="other", replay_detail="2 of 8 known answers")
    assert "2 of 8 known answers" in why(serving, serving.next())


def test_memory_that_is_not_known_shows_nothing(serving: Bench) -> None:
    begun = at_weight(serving, 5)
    count(serving, begun, candidate=counts(memory=None))
    assert serving.next() is None


def test_what_a_canary_counts_is_kept_for_its_curves_once_a_second(
    serving: Bench,
) -> None:
    begun = at_weight(serving, 5)
    count(serving, begun, step_requests=1, candidate=counts(3))
    home = serving.ledger.home
    for _ in range(3):
        drive_release(MODEL, serving.context, waits=False)
    (look,) = read_looks(home, begun)
    assert (look.weight, look.report.candidate.requests) == (5, 3)
    # A second ago by the file's own time: no test has to wait for it.
    path = home / "canaries" / f"{begun}.jsonl"
    os.utime(path, (1, 1))
    drive_release(MODEL, serving.context, waits=False)
    assert len(read_looks(home, begun)) == 2
    # A folder in its place, as a disk that takes nothing: the release goes on.
    path.unlink()
    path.mkdir()
    drive_release(MODEL, serving.context, waits=False)
    assert read_looks(home, begun) == ()
    assert step(serving) is not None


def test_without_traffic_a_canary_pauses_and_is_aborted_after_max_pause(
    serving: Bench,
) -> None:
    begun = at_weight(serving, 5, canary=plan(max_pause_s=100))
    nothing = {"candidate": counts(0), "baseline": counts(0), "step_requests": 0}
    count(serving, begun, quiet_seconds=59.9, **nothing)
    assert serving.next() is None
    count(serving, begun, quiet_seconds=60.0, **nothing)
    body = serving.next()
    assert body == CanaryPaused(begun=begun)
    serving.write(body)
    count(serving, begun, quiet_seconds=159.9, **nothing)
    assert serving.next() is None
    count(serving, begun, quiet_seconds=160.0, **nothing)
    assert "nobody asked it for 160 s" in why(serving, serving.next())


def test_a_paused_canary_resumes_with_the_first_answer_and_then_advances(
    serving: Bench,
) -> None:
    begun = at_weight(serving, 5)
    serving.write(CanaryPaused(begun=begun))
    count(serving, begun, quiet_seconds=3.0)
    body = serving.next()
    assert body == CanaryResumed(begun=begun)
    serving.write(body)
    count(serving, begun, quiet_seconds=3.0)
    assert isinstance(serving.next(), CanaryStep)


def test_a_paused_canary_is_still_aborted_where_it_is_worse(serving: Bench) -> None:
    begun = at_weight(serving, 5)
    serving.write(CanaryPaused(begun=begun))
    count(serving, begun, candidate=counts(0, errors=50), quiet_seconds=70.0)
    assert "errors" in why(serving, serving.next())


def test_a_step_that_shows_nothing_for_too_long_is_aborted(serving: Bench) -> None:
    begun = at_weight(serving, 5, canary=plan(max_step_s=600))
    few = {"candidate": counts(30), "baseline": counts(30)}
    count(serving, begun, step_seconds=599.9, **few)
    assert serving.next() is None
    count(serving, begun, step_seconds=600.0, **few)
    assert "nothing was shown in 600 s: errors in" in why(serving, serving.next())
    count(serving, begun, step_seconds=600.0, step_requests=10)
    assert "too few requests" in why(serving, serving.next())


def test_counts_of_another_step_or_stage_count_for_nothing(serving: Bench) -> None:
    begun = at_weight(serving, 5)
    serving.canaries = (report(begun, None),)
    assert serving.next() is None
    serving.canaries = (report(begun, step(serving), stage="bake"),)
    assert serving.next() is None


def test_a_canary_neither_begins_nor_advances_outside_its_change_windows(
    serving: Bench,
) -> None:
    office = {"days": ["thu"], "start": "09:00", "end": "17:00"}
    windows = plan(change_windows=[office])
    begun = begin(serving, windows)
    count(serving, begun)
    noon = serving.now
    serving.now = noon + timedelta(hours=6)
    assert serving.next() is None
    assert "waits for a change window" in (described(serving) or "")
    serving.now = noon
    body = serving.next()
    assert isinstance(body, CanaryStep)
    serving.write(body)
    serving.now = noon + timedelta(hours=6)
    # What is shown stays shown: the night without traffic neither pauses nor aborts it.
    count(serving, begun, quiet_seconds=50_000.0)
    assert serving.next() is None
    count(serving, begun, candidate=counts(0, errors=50))
    assert "errors" in why(serving, serving.next())


def test_a_newer_wish_for_another_version_ends_a_canary(serving: Bench) -> None:
    begun = at_weight(serving, 5)
    count(serving, begun, step_seconds=1.0)
    assert serving.next() is None
    serving.write(Wished(by="rita", reason_sha256="0" * 64, model=MODEL, version="3"))
    count(serving, begun, step_seconds=1.0)
    # Whether it is fit is not known yet.
    assert serving.next() is None
    serving.judge("3")
    count(serving, begun, step_seconds=1.0)
    assert "rita wished for version 3 (entry " in why(serving, serving.next())


def test_an_older_wish_does_not(serving: Bench) -> None:
    serving.write(Wished(by="rita", reason_sha256="0" * 64, model=MODEL, version="3"))
    begun = at_weight(serving, 5)
    count(serving, begun)
    assert isinstance(serving.next(), CanaryStep)


def test_a_skipped_canary_switches_at_once(serving: Bench) -> None:
    begun = at_weight(serving, 5)
    serving.write(CanarySkipped(by="olga", reason_sha256="0" * 64, begun=begun))
    assert serving.next() == ReleaseSwitched(begun=begun)


def test_a_second_person_skips_a_canary_in_one_step(serving: Bench) -> None:
    second = ChangeRequest("olga", "the old version leaks names", "7 (olga)")
    with pytest.raises(ReleaseError, match="No release of letters-tiny is on its way"):
        skip_canary(MODEL, second, serving.context, DEFAULT)
    begun = at_weight(serving, 5)
    with pytest.raises(IllegalEntry, match="a second person has to skip"):
        skip_canary(MODEL, WHY, serving.context, DEFAULT)
    skip_canary(MODEL, second, serving.context, DEFAULT)
    assert serving.next() == ReleaseSwitched(begun=begun)


def test_one_person_with_two_accounts_is_no_second_one(serving: Bench) -> None:
    judged = serving.judge("2")
    release = release_of("2").model_copy(update={"canary": plan()})
    order = {"by": "ann", "account": "mlflow:ann", "reason_sha256": "0" * 64}
    body = {"release": release, "judged": judged, **order}
    serving.write(ReleaseBegun.model_validate(body))
    people = People(
        people={
            "kim": Person(mlflow=("ann",), accounts=("7",)),
            "olga": Person(accounts=("8",)),
        }
    )
    kim = ChangeRequest("kim", "it is urgent", "7 (kim)")
    with pytest.raises(ReleaseError, match=r"ann and kim are one person .*\(kim\)"):
        skip_canary(MODEL, kim, serving.context, people)
    olga = ChangeRequest("olga", "it is urgent", "8 (olga)")
    skip_canary(MODEL, olga, serving.context, people)
    assert serving.kinds[-1] == "canary_skipped"


def test_only_what_has_a_canary_can_skip_it(serving: Bench) -> None:
    serving.begin("2")
    with pytest.raises(ReleaseError, match="has no canary to skip"):
        skip_canary(MODEL, WHY, serving.context, DEFAULT)


def test_a_first_release_switches_at_once(bench: Bench) -> None:
    begun = begin(bench)
    assert bench.next() == ReleaseSwitched(begun=begun)


def test_an_engine_that_ends_in_a_canary_aborts_it(serving: Bench) -> None:
    begun = at_weight(serving, 5)
    count(serving, begun)
    serving.engines[begun] = EngineState(
        begun=begun, state="failed", detail="its engine process ended with code -9"
    )
    assert "ended with code -9" in why(serving, serving.next())


def switched(bench: Bench, canary: CanaryPlan | None = None) -> int:
    begun = at_weight(bench, 5, 25, canary=canary)
    bench.write(ReleaseSwitched(begun=begun))
    bench.answers(begun)
    return begun


def test_a_release_is_completed_when_it_has_baked(serving: Bench) -> None:
    begun = switched(serving)
    serving.canaries = (report(begun, 1, stage="bake", step_seconds=59.9),)
    assert serving.next() is None
    serving.canaries = (report(begun, 1, stage="bake", step_seconds=60.0),)
    assert serving.next() == ReleaseCompleted(begun=begun)


def test_a_release_that_is_worse_after_the_switch_is_rolled_back_with_both_numbers(
    serving: Bench,
) -> None:
    first = serving.ledger.state().model(MODEL).once_served[0].begun
    begun = switched(serving)
    worse = report(begun, 1, stage="bake", candidate=counts(100, errors=40))
    serving.canaries = (worse,)
    body = serving.next()
    assert isinstance(body, RolledBack)
    assert (body.to, body.by) == (first, "controller")
    assert "errors in 28.6% of 140 against 0.0% of 300" in why(serving, body)


def test_answers_and_copies_are_not_compared_by_time(serving: Bench) -> None:
    begun = switched(serving)
    serving.canaries = (report(begun, 1, stage="bake", candidate=counts(seconds=9)),)
    assert serving.next() == ReleaseCompleted(begun=begun)


def test_without_a_bake_time_a_switch_is_completed_when_it_answers(
    serving: Bench,
) -> None:
    begun = switched(serving, plan(bake_s=0))
    assert serving.next() == ReleaseCompleted(begun=begun)


def test_a_bake_that_nobody_counts_is_undone_in_the_end(serving: Bench) -> None:
    switched(serving)
    assert serving.next() is None
    assert isinstance(serving.next(seconds=1), RolledBack)


def test_an_endpoint_that_is_away_while_a_release_bakes_has_the_time_to_start(
    serving: Bench,
) -> None:
    switched(serving)
    away = EndpointState(head=None, alarms=("The endpoint is unreachable.",))
    patience = Patience(to_load=10, to_switch=0.3)
    context = replace(serving.context, patience=patience)
    state = serving.ledger.state()
    assert next_entry(state, MODEL, away, Stall(5, context)) is None
    undone = next_entry(state, MODEL, away, Stall(11, context))
    assert isinstance(undone, RolledBack)


def obey(bench: Bench, **fields: Any) -> None:
    """Have the endpoint be where the ledger is, and count as `fields` says."""

    def follow(each: Bench) -> None:
        model = each.ledger.state().model(MODEL)
        if model.pending is not None and model.pending.canary is not None:
            progress = model.pending.canary
            each.canaries = (report(model.pending.begun, progress.step, **fields),)
        elif model.current is not None:
            begun = model.current.begun
            each.answers(begun)
            each.canaries = (report(begun, 1, stage="bake"),)

    bench.on_ring = follow


@pytest.mark.parametrize("weights", [(), (5,), (5, 25)])
def test_whoever_comes_next_takes_a_canary_to_its_end(
    serving: Bench, weights: tuple[int, ...]
) -> None:
    at_weight(serving, *weights)
    obey(serving)
    drive_release(MODEL, serving.context)
    assert is_at_rest(serving.ledger.state().model(MODEL))
    assert serving.traffic() == ("2", False)
    assert serving.kinds.count("canary_step") == 2


def test_a_driver_that_does_not_wait_leaves_a_canary_to_the_next_round(
    serving: Bench,
) -> None:
    at_weight(serving, 5)
    obey(serving, step_seconds=1.0)
    drive_release(MODEL, serving.context, waits=False)
    assert not is_at_rest(serving.ledger.state().model(MODEL))
    obey(serving)
    drive_release(MODEL, serving.context, waits=False)
    assert serving.traffic() == ("2", False)


def test_the_controller_says_what_a_canary_came_to_and_nothing_while_it_runs(
    serving: Bench,
) -> None:
    assert finish_release(MODEL, serving.context) is None
    at_weight(serving, 5)
    obey(serving, step_seconds=1.0)
    assert finish_release(MODEL, serving.context) is None
    obey(serving, candidate=counts(0, errors=50))
    end = finish_release(MODEL, serving.context)
    assert end is not None
    assert end.has_failed
    assert end.sentence.startswith(
        "A release of letters-tiny came to nothing. The release was aborted: "
        "it is worse at 5 % of the requests: errors in 100.0% of 50"
    )
    begin(serving)
    obey(serving)
    carried = "A release of letters-tiny that was left on its way was carried to its"
    assert finish_release(MODEL, serving.context) == (
        f"{carried} end: version 2 serves.",
        False,
    )


def test_a_canary_may_take_longer_than_an_engine_may_load(serving: Bench) -> None:
    at_weight(serving, 5)
    looks: list[int] = []
    obey(serving, step_seconds=1.0)
    wait = serving.on_ring

    def later(each: Bench) -> None:
        looks.append(1)
        wait(each)
        # 0.3 s are the time that an engine has to load.
        if len(looks) > 60:
            obey(each)

    serving.on_ring = later
    drive_release(MODEL, serving.context)
    assert serving.traffic() == ("2", False)


def test_two_drivers_of_a_canary_write_each_step_once(
    serving: Bench, tmp_path: Path
) -> None:
    begin(serving)
    obey(serving)
    follow = serving.on_ring
    other = replace(serving, ledger=open_ledger(tmp_path / "home"))
    raced: list[int] = []

    def race(each: Bench) -> None:
        follow(each)
        if not raced:
            raced.append(1)
            drive_release(MODEL, other.context)

    serving.on_ring = race
    drive_release(MODEL, serving.context)
    assert serving.kinds.count("canary_step") == 2
    # Of version 1 and of version 2.
    assert serving.kinds.count("release_switched") == 2


def test_a_rollback_by_hand_stops_a_canary_and_its_driver_says_so(
    serving: Bench,
) -> None:
    passed = Finding(rule="screen", outcome="passed", text="It did.")
    candidate = Candidate(
        findings=(passed,),
        policy_sha256="e" * 64,
        model=MODEL,
        version="2",
        package_sha256="2" * 64,
        spec=spec("2"),
        known_answers_share=1.0,
        canary=plan(),
    )
    judged = serving.judge("2")
    serving.engines[judged + 1] = EngineState(begun=judged + 1, state="ready")
    obey(serving, step_seconds=1.0)
    follow = serving.on_ring

    def stop(each: Bench) -> None:
        follow(each)
        if each.kinds[-1] == "canary_step":
            each.on_ring = lambda _: None
            each.obeys = True
            roll_back(MODEL, None, WHY, each.context)

    serving.on_ring = stop
    with pytest.raises(ReleaseError, match="aborted by ann: because"):
        release(candidate, judged, WHY, serving.context)
    assert serving.traffic() == ("1", False)


def described(bench: Bench) -> str | None:
    model = bench.ledger.state().model(MODEL)
    return describe_canary(model, next(iter(bench.canaries), None), bench.now)


def test_where_a_canary_stands_is_a_sentence(serving: Bench) -> None:
    assert described(serving) is None
    begun = begin(serving, plan(bake_s=60, max_pause_s=100))
    assert described(serving) == "not begun"
    serving.write(CanaryStep(begun=begun, weight=5))
    assert described(serving) == (
        "5 % of the requests, step 1 of 2; the endpoint has not counted yet"
    )
    few = counts(60)
    count(serving, begun, candidate=few, baseline=few, step_requests=40)
    assert described(serving) == (
        "5 % of the requests, step 1 of 2, 61 s of 60 s, 40 of 50 answers a side; "
        "not shown yet: errors, empties, refusals, repetition"
    )
    count(serving, begun, candidate=counts(0, errors=50))
    assert "worse: errors in 100.0% of 50" in (described(serving) or "")
    serving.write(CanaryPaused(begun=begun))
    count(serving, begun, quiet_seconds=100.0)
    assert described(serving) == (
        "5 % of the requests, step 1 of 2, 61 s of 60 s, 100 of 50 answers a side; "
        "every signal is as good as the baseline's; "
        "paused without traffic, aborted in 60 s"
    )
    serving.write(CanarySkipped(by="olga", reason_sha256="0" * 64, begun=begun))
    assert "skipped at entry" in (described(serving) or "")


def test_of_a_release_without_a_canary_nothing_is_said(serving: Bench) -> None:
    serving.begin("2")
    assert described(serving) is None


def test_how_a_release_bakes_is_a_sentence(serving: Bench) -> None:
    begun = switched(serving)
    assert described(serving) is None
    serving.canaries = (report(begun, 1, stage="canary"),)
    assert described(serving) is None
    serving.canaries = (report(begun, 1, stage="bake", step_seconds=12.0),)
    assert described(serving) == (
        "all requests for 12 s of 60 s in which worse signals roll it back; "
        "every signal is as good as the baseline's"
    )
    serving.write(ReleaseCompleted(begun=begun))
    assert described(serving) is None


def test_a_route_that_is_another_release_does_not_bake(serving: Bench) -> None:
    begun = switched(serving)
    serving.canaries = (report(begun, 1, stage="bake"),)
    serving.routes[MODEL] = Route(begun=1, serves_base=False, fingerprint="fp")
    assert serving.next() is None
