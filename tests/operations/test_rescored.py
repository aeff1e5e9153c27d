"""The controller goes back from a release that is worse, once, while it bakes; else it alarms."""

from datetime import timedelta
from pathlib import Path

import pytest

from core.notify import notices
from core.project import Project
from operations.reconcile import Reconciler
from pipelines.values.verdict import Finding
from registry.ledger.entries import CanaryStep, Rescored, RolledBack
from registry.ledger.ledger import Ledger, open_ledger
from registry.release.rescore import RescoreVerdict
from tests.support.canaries import plan
from tests.support.ledgers import (
    MODEL,
    WHY,
    begun,
    complete_release,
    frozen,
    judged,
    package,
    tamper,
    write,
)

BAKE = 3600


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "home")


@pytest.fixture
def duties(ledger: Ledger, tmp_path: Path) -> Reconciler:
    return Reconciler(Project(tmp_path, tmp_path / "home"))


def two_releases(ledger: Ledger) -> tuple[int, int]:
    """The second one after a canary; it is completed and bakes for an hour more."""
    first = write(ledger, begun(write(ledger, judged("1")), "1"))
    complete_release(ledger, first)
    body = begun(write(ledger, judged("2")), "2")
    canary = plan(weights=(5,), bake_s=BAKE)
    release = body.release.model_copy(update={"canary": canary})
    second = write(ledger, body.model_copy(update={"release": release}))
    write(ledger, CanaryStep(begun=second, weight=5))
    complete_release(ledger, second)
    return first, second


def score_again(
    ledger: Ledger, release: int, against: int | None, verdict: str = "rejected"
) -> None:
    text = RescoreVerdict(
        verdict="rejected",
        findings=(
            Finding(rule="bleu", outcome="rejected", text="bleu is worse by 3.1"),
        ),
    ).model_dump_json()
    body = Rescored.model_validate(
        {
            "model": MODEL,
            "version": "2",
            "package_sha256": package("2"),
            "begun": release,
            "against": against,
            "verdict": verdict,
            "verdict_sha256": ledger.remember(text),
            "policy_sha256": WHY,
            "evidence_sha256": WHY,
        }
    )
    write(ledger, body)


def serving(ledger: Ledger) -> str | None:
    answering = ledger.state().model(MODEL).answering
    return None if answering is None else answering.release.version


def test_a_worse_release_gives_way_once_with_the_numbers_and_people_are_told(
    ledger: Ledger, duties: Reconciler
) -> None:
    first, second = two_releases(ledger)
    score_again(ledger, second, first)
    (sentence,) = duties.go_back_from_worse()
    assert serving(ledger) == "1"
    assert "bleu is worse by 3.1: what served before serves again." in sentence
    (last,) = ledger.entries(after=ledger.state().head.generation - 1)
    assert isinstance(last.body, RolledBack)
    assert "bleu is worse by 3.1" in (ledger.recall(last.body.reason_sha256) or "")
    assert (duties.go_back_from_worse(), serving(ledger)) == ((), "1")
    home = duties._project.home
    assert [notice.text for notice in notices(home)] == [sentence]


def test_a_release_on_its_way_is_stopped_with_it(
    ledger: Ledger, duties: Reconciler
) -> None:
    first, second = two_releases(ledger)
    write(ledger, begun(write(ledger, judged("3")), "3"))
    score_again(ledger, second, first)
    duties.go_back_from_worse()
    assert (serving(ledger), ledger.state().model(MODEL).pending) == ("1", None)


def test_while_releases_are_frozen_the_way_back_stays_open(
    ledger: Ledger, duties: Reconciler
) -> None:
    first, second = two_releases(ledger)
    write(ledger, frozen())
    score_again(ledger, second, first)
    duties.go_back_from_worse()
    assert serving(ledger) == "1"


def test_after_the_bake_time_people_are_told_once_and_traffic_stays(
    ledger: Ledger, duties: Reconciler
) -> None:
    first, second = two_releases(ledger)
    end = ledger.state().at + timedelta(seconds=BAKE)
    late = Ledger(ledger.home, ledger.database, lambda: end)
    score_again(late, second, first)
    (sentence,) = duties.go_back_from_worse()
    assert "It continues to serve, since its bake time is over" in sentence
    assert (duties.go_back_from_worse(), serving(ledger)) == ((), "2")


@pytest.mark.parametrize("verdict", ["passed", "undecided"])
def test_undecided_never_goes_back(
    ledger: Ledger, duties: Reconciler, verdict: str
) -> None:
    first, second = two_releases(ledger)
    score_again(ledger, second, first, verdict)
    assert (duties.go_back_from_worse(), serving(ledger)) == ((), "2")


def test_without_a_predecessor_that_was_compared_with_people_are_told(
    ledger: Ledger, duties: Reconciler
) -> None:
    _, second = two_releases(ledger)
    score_again(ledger, second, None)
    (sentence,) = duties.go_back_from_worse()
    assert "nothing that it was compared with can take over" in sentence
    assert serving(ledger) == "2"


def test_a_text_that_was_edited_by_hand_changes_no_decision_and_is_not_repeated(
    tmp_path: Path, ledger: Ledger, duties: Reconciler
) -> None:
    first, second = two_releases(ledger)
    score_again(ledger, second, first)
    tamper(tmp_path / "home", "UPDATE texts SET text = 'all is well'")
    (sentence,) = duties.go_back_from_worse()
    assert "is worse or unfair" in sentence
    assert serving(ledger) == "1"


def test_a_restarted_controller_goes_back_for_what_was_entered_while_it_was_away(
    tmp_path: Path, ledger: Ledger, duties: Reconciler
) -> None:
    first, second = two_releases(ledger)
    assert duties.go_back_from_worse() == ()
    score_again(ledger, second, first)
    Reconciler(Project(tmp_path, tmp_path / "home")).go_back_from_worse()
    assert serving(ledger) == "1"
    assert duties.go_back_from_worse() == ()
    rollbacks = [
        entry for entry in ledger.entries() if isinstance(entry.body, RolledBack)
    ]
    assert len(rollbacks) == 1
