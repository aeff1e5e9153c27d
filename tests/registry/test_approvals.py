"""When an approval stands, and that asking twice enters one."""

from pathlib import Path

import pytest

from core.errors import ReleaseError
from pipelines.values.verdict import Finding, Undecided
from registry.ledger.entries import Registered
from registry.ledger.ledger import Ledger, open_ledger
from registry.release.approvals import Target, approve, describe_approvals, withdraw
from registry.release.context import ChangeRequest
from registry.release.people import DEFAULT
from registry.release.release import Subject, record_judgement
from tests.support.ledgers import MODEL, registered

TARGET = Target(MODEL, "1")
ANN = ChangeRequest(by="manager", reason="good", account="mlflow:manager")
NOBODYS = "nobody's approval stands"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = open_ledger(tmp_path)
    register(made, "a")
    return made


def register(ledger: Ledger, letter: str, **changes: object) -> None:
    """Version 1 with a package of that letter, as where MLflow's numbers began again."""
    other = {"package_sha256": letter * 64, "adapter_sha256": letter * 64, **changes}
    body: Registered = registered().model_copy(update=other)
    ledger.append(body, ledger.state())


def approvals(ledger: Ledger) -> int:
    return len(ledger.state().approvals)


def test_an_approval_stands_for_the_bytes_of_the_last_registration_alone(
    ledger: Ledger,
) -> None:
    approve(TARGET, ANN, DEFAULT, ledger)
    approve(TARGET, ANN, DEFAULT, ledger)
    assert approvals(ledger) == 1
    register(ledger, "b")
    assert describe_approvals(TARGET, ledger.state()) == NOBODYS
    # The first bytes again: what was said of them is from before their registration.
    register(ledger, "a")
    assert describe_approvals(TARGET, ledger.state()) == NOBODYS
    approve(TARGET, ANN, DEFAULT, ledger)
    assert approvals(ledger) == 2
    assert describe_approvals(TARGET, ledger.state()).startswith("manager (")
    withdraw(TARGET, ANN, ledger)
    assert approvals(ledger) == 0


def test_a_version_that_nobody_knows_has_no_approval(ledger: Ledger) -> None:
    unknown = Target(MODEL, "9")
    assert describe_approvals(unknown, ledger.state()) == NOBODYS
    with pytest.raises(ReleaseError, match="has not approved version 9"):
        withdraw(unknown, ANN, ledger)


def test_of_a_version_without_its_authors_account_nobody_is_told_from_the_author(
    ledger: Ledger,
) -> None:
    register(ledger, "d", account=None)
    with pytest.raises(ReleaseError, match="is not on record, so nobody can be told"):
        approve(TARGET, ANN, DEFAULT, ledger)
    register(ledger, "e")
    nobody = ChangeRequest(by="manager", reason="good")
    with pytest.raises(ReleaseError, match="does not have the role approver"):
        approve(TARGET, nobody, DEFAULT, ledger)
    assert approvals(ledger) == 0


def test_a_verdict_does_not_count_where_an_approval_was_taken_back_meanwhile(
    ledger: Ledger,
) -> None:
    approve(TARGET, ANN, DEFAULT, ledger)
    looked_at = ledger.state()
    subject = Subject(MODEL, "1", "a" * 64, None)
    missing = Finding(rule="freshness", outcome="undecided", text="It is old")
    verdict = Undecided(gate="judge", findings=(missing,), policy_sha256="f" * 64)
    record_judgement(ledger, subject, verdict, looked_at)
    withdraw(TARGET, ANN, ledger)
    with pytest.raises(ReleaseError, match=r"manager took .* back \(entry 5\)"):
        record_judgement(ledger, subject, verdict, looked_at)
    assert len(ledger.state().judged) == 1
    # What somebody says of another version is none of its business.
    other = Subject(MODEL, "2", "a" * 64, None)
    record_judgement(ledger, other, verdict, looked_at)
    assert len(ledger.state().judged) == 2
