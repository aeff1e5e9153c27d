"""What people say after `judge` has looked at a version comes before its release begins."""

from pathlib import Path

import pytest

from core.errors import ReleaseError
from pipelines.values.verdict import Candidate, Finding
from registry.ledger.enrolment import enrol
from registry.ledger.entries import (
    BaseServed,
    Body,
    Judged,
    KeyRevoked,
    ModelRated,
    Rated,
    ReviewOpened,
)
from registry.ledger.ledger import Ledger, open_ledger
from registry.release.approvals import Target, approve, withdraw
from registry.release.context import ChangeRequest
from registry.release.people import DEFAULT
from registry.release.release import begin_release, drive_release, find_outcome
from registry.release.since_judged import (
    check_nothing_was_said,
    check_serves_as_before,
    find_withdrawal,
)
from tests.support.fake_endpoint import Bench
from tests.support.ledgers import (
    MODEL,
    WHY,
    begun,
    complete_release,
    judged,
    registered,
    write,
)

MANAGER = ChangeRequest(by="manager", reason="good", account="mlflow:manager")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Versions 1 and 2 are registered, and each has an approval."""
    made = open_ledger(tmp_path)
    enrol(made, "admission", "assay")
    for version in ("1", "2"):
        write(made, registered(version))
        approve(Target(MODEL, version), MANAGER, DEFAULT, made)
    return made


def take_back(ledger: Ledger, version: str) -> None:
    withdraw(Target(MODEL, version), MANAGER, ledger)


def judge(ledger: Ledger) -> Judged:
    """The verdict on version 1, which passed."""
    registration = ledger.state().registration(MODEL, "1")
    assert registration is not None
    verdict = judged(
        adapter_sha256=registration.made.adapter_sha256,
        registration=registration.generation,
    )
    write(ledger, verdict)
    return verdict


def candidate() -> Candidate:
    release = begun(1).release
    passed = Finding(rule="screen", outcome="passed", text="It did.")
    return Candidate(
        findings=(passed,),
        policy_sha256=WHY,
        model=MODEL,
        version="1",
        package_sha256=release.package_sha256,
        spec=release.spec,
        known_answers_share=0.9,
    )


def begin(ledger: Ledger) -> int:
    """Begin the release of the last verdict, as the controller does."""
    last = ledger.state().head.generation
    at = max(each for each in ledger.state().judged if each <= last)
    return begin_release(candidate(), at, MANAGER, Bench(ledger).context)


def test_an_approval_that_is_taken_back_after_the_verdict_stops_its_release(
    ledger: Ledger,
) -> None:
    judge(ledger)
    take_back(ledger, "1")
    with pytest.raises(ReleaseError, match=r"manager took an approval of it back"):
        begin(ledger)
    assert ledger.state().model(MODEL).pending is None
    # Judged again, with what stands by now, it may begin.
    judge(ledger)
    take_back(ledger, "2")
    begin(ledger)
    assert ledger.state().model(MODEL).pending is not None


def test_an_approval_that_is_taken_back_ends_a_release_on_its_way(
    ledger: Ledger,
) -> None:
    judge(ledger)
    began = begin(ledger)
    context = Bench(ledger).context
    take_back(ledger, "2")
    # Whoever reviews it meanwhile stops nothing.
    write(ledger, opened("1"))
    pending = ledger.state().model(MODEL).pending
    assert pending is not None
    assert find_withdrawal(ledger.state(), pending.release, pending.judged) == ""
    last = ledger.state().head.generation
    take_back(ledger, "1")
    drive_release(MODEL, context)
    fact = rf"manager took an approval of it back \(entry {last + 1}\)"
    with pytest.raises(ReleaseError, match=fact):
        find_outcome(ledger, MODEL, began)


def withdrawal_of(ledger: Ledger, since: int, model: str = MODEL) -> str:
    release = begun(1).release.model_copy(update={"model": model})
    return find_withdrawal(ledger.state(), release, since)


def test_an_approval_that_is_given_again_is_a_matter_of_the_next_verdict(
    ledger: Ledger,
) -> None:
    take_back(ledger, "1")
    at = ledger.state().head.generation
    approve(Target(MODEL, "1"), MANAGER, DEFAULT, ledger)
    assert withdrawal_of(ledger, at - 1) == (
        f"manager took an approval of it back (entry {at})"
    )
    # The verdict came behind it.
    assert withdrawal_of(ledger, at) == ""
    assert withdrawal_of(ledger, at - 1, model="other") == ""
    take_back(ledger, "1")
    assert withdrawal_of(ledger, at).endswith(f"(entry {at + 2})")


def test_a_key_that_is_known_to_be_stolen_later_ends_a_release_on_its_way(
    ledger: Ledger,
) -> None:
    judge(ledger)
    since = ledger.state().head.generation
    (key,) = [key for key in ledger.state().keys if key.role == "admission"]
    revoked = KeyRevoked(by="ann", reason_sha256=WHY, key_id=key.key_id)
    write(ledger, revoked)
    assert withdrawal_of(ledger, since) == ""
    at = write(ledger, revoked.model_copy(update={"is_compromised": True}))
    fact = f"key {key.key_id[:12]} was revoked as compromised (entry {at})"
    assert withdrawal_of(ledger, at - 1) == fact
    assert withdrawal_of(ledger, at) == ""


def test_a_brake_that_is_pulled_while_a_version_is_judged_is_not_undone_by_its_release(
    ledger: Ledger,
) -> None:
    judge(ledger)
    complete_release(ledger, begin(ledger))
    looked_at = ledger.state()
    # Nothing that serves is changed by a verdict.
    judge(ledger)
    check_serves_as_before(MODEL, looked_at, ledger.state())
    braked = write(ledger, BaseServed(model=MODEL, by="olga", reason_sha256=WHY))
    # Whoever looked when it was pulled has seen it.
    at_the_brake = ledger.state()
    judge(ledger)
    check_serves_as_before(MODEL, at_the_brake, ledger.state())
    with pytest.raises(ReleaseError, match=rf"was judged \(entry {braked}\)"):
        check_serves_as_before(MODEL, looked_at, ledger.state())
    check_serves_as_before("other", looked_at, ledger.state())


def review(version: str) -> dict[str, object]:
    made = registered(version)
    return {
        "by": "ann",
        "model": MODEL,
        "version": version,
        "package_sha256": made.package_sha256,
    }


def opened(version: str) -> Body:
    asked = {"against": "base", "plan_sha256": version * 64, "reviewers": ["bob"]}
    return ReviewOpened.model_validate(review(version) | asked)


def rated(version: str, opened: int) -> Body:
    found = {"opened": opened, "ratings_sha256": WHY, "raters": 1, "prompts": 1}
    return Rated.model_validate(review(version) | found)


def model_rated(version: str, opened: int) -> Body:
    found = {"judge_sha256": WHY, "replies_sha256": WHY, "items": 1}
    return ModelRated.model_validate(review(version) | {"opened": opened} | found)


def test_a_review_that_is_opened_or_closed_meanwhile_changes_the_verdict(
    ledger: Ledger,
) -> None:
    verdict = judge(ledger)
    since = ledger.state().head.generation
    other = write(ledger, opened("2"))
    write(ledger, model_rated("2", other), rated("2", other))
    # What is said of another version is none of its business.
    check_nothing_was_said(ledger, verdict, since)
    at = write(ledger, opened("1"))
    for said in (model_rated("1", at), rated("1", at)):
        last = write(ledger, said)
        with pytest.raises(ReleaseError, match=rf"a review of it \(entry {last}\)"):
            check_nothing_was_said(ledger, verdict, last - 1)
    with pytest.raises(ReleaseError, match=rf"\(entry {at}\), so that this verdict"):
        check_nothing_was_said(ledger, verdict, since)
    check_nothing_was_said(ledger, verdict, last)


def test_a_key_that_was_stolen_takes_its_words_with_it(ledger: Ledger) -> None:
    verdict = judge(ledger)
    since = ledger.state().head.generation
    keys = [key for key in ledger.state().keys if key.role == "admission"]
    revoked = KeyRevoked(by="ann", reason_sha256=WHY, key_id=keys[0].key_id)
    stolen = revoked.model_copy(update={"is_compromised": True})
    write(ledger, stolen)
    with pytest.raises(ReleaseError, match="was revoked as compromised"):
        check_nothing_was_said(ledger, verdict, since)


def test_a_key_that_is_only_replaced_keeps_its_words(ledger: Ledger) -> None:
    verdict = judge(ledger)
    since = ledger.state().head.generation
    (key,) = [key for key in ledger.state().keys if key.role == "admission"]
    write(ledger, KeyRevoked(by="ann", reason_sha256=WHY, key_id=key.key_id))
    check_nothing_was_said(ledger, verdict, since)
    # Another model's version of that number is another one.
    elsewhere = verdict.model_copy(update={"model": "other"})
    take_back(ledger, "1")
    check_nothing_was_said(ledger, elsewhere, since)
