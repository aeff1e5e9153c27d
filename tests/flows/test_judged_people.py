"""What `judge` hears of people: the ledger's entries, and people.yaml as it is now."""

from datetime import timedelta
from pathlib import Path

from flows.judged_people import (
    approvals_of,
    last_verdict,
    origin_approvals_of,
    persons_of,
    waivers_of,
)
from registry.ledger.entries import (
    Approved,
    OriginApproval,
    OriginHead,
    Received,
    ReleaseSwitched,
    Revoked,
    Waived,
)
from registry.ledger.state import Registration
from registry.mlflow.recorded import ModelVersion
from registry.release.people import FILE, People, read_people
from tests.support.ledgers import (
    MODEL,
    START,
    WHY,
    Chain,
    begun,
    judged,
    made,
    package,
    registered,
)

PEOPLE = """\
people:
  ann: {mlflow: [ann], accounts: [1000], roles: [approver, release_manager]}
  bob: {mlflow: [bob], roles: [reviewer]}
"""
VERSION = ModelVersion(
    name=MODEL,
    version="1",
    run_id="r",
    package_sha256=package("1"),
    logical_run=WHY,
)


def people(root: Path, text: str = PEOPLE) -> People:
    (root / FILE).write_text(text)
    return read_people(root)


def approved(by: str, version: str = "1", account: str | None = "") -> Approved:
    return Approved(
        by=by,
        account=f"mlflow:{by}" if account == "" else account,
        reason_sha256=WHY,
        model=MODEL,
        version=version,
        package_sha256=package(version),
    )


def test_approvals_are_of_these_bytes_with_the_roles_of_now(tmp_path: Path) -> None:
    chain = Chain()
    chain.add(registered(), registered("2"))
    chain.add(approved("ann"), approved("bob"), approved("ann", "2"))
    chain.add(approved("eve", account=None))
    found = approvals_of(chain.ledger_state, VERSION, people(tmp_path))
    assert [(each.by, each.roles, each.persons) for each in found] == [
        ("ann", ("approver", "release_manager"), ("ann",)),
        ("bob", ("reviewer",), ("bob",)),
    ]
    # Who lost the role since does not count.
    less = people(tmp_path, "people: {ann: {mlflow: [ann]}}\n")
    assert [each.roles for each in approvals_of(chain.ledger_state, VERSION, less)] == [
        (),
        (),
    ]
    other = VERSION.model_copy(update={"package_sha256": package("2")})
    assert approvals_of(chain.ledger_state, other, less) == ()


def test_waivers_are_of_the_model_with_the_roles_of_now(tmp_path: Path) -> None:
    chain = Chain()
    for model, account in ((MODEL, "1000 (kim)"), ("other", "1000"), (MODEL, None)):
        until = chain.ledger_state.at + timedelta(hours=1)
        chain.add(
            Waived(
                rule="approvals",
                model=model,
                until=until,
                by="kim",
                account=account,
                reason_sha256=WHY,
            )
        )
    found = waivers_of(chain.ledger_state, MODEL, people(tmp_path))
    assert [(each.account, each.roles, each.persons) for each in found] == [
        ("1000 (kim)", ("approver", "release_manager"), ("ann",)),
        (None, (), ()),
    ]
    assert persons_of(people(tmp_path), "kim", None) == ()


def test_the_policy_of_the_last_release_is_remembered_through_a_revocation() -> None:
    chain = Chain()
    assert last_verdict(chain.ledger_state, MODEL) is None
    verdict = judged("1")
    chain.add(verdict)
    # Judged and never released.
    assert last_verdict(chain.ledger_state, MODEL) is None
    chain.add(begun(chain.last, "1"))
    chain.add(ReleaseSwitched(begun=chain.last))
    assert last_verdict(chain.ledger_state, MODEL) == verdict
    assert last_verdict(chain.ledger_state, "other") is None
    chain.add(judged("2").model_copy(update={"policy_sha256": "e" * 64}))
    assert last_verdict(chain.ledger_state, MODEL) == verdict
    chain.add(Revoked(by="olga", reason_sha256=WHY, model=MODEL, version="1"))
    assert last_verdict(chain.ledger_state, MODEL) == verdict


def received_with(*approvals: OriginApproval) -> Registration:
    chain = Chain()
    origin = OriginHead(name="staging", ledger_id="5" * 32, generation=9, hash="9" * 64)
    entry = Received(
        **made().model_dump(),
        by="lena",
        origin=origin,
        version_there="7",
        entered_there=3,
        made_at=START,
        approvals=approvals,
        transfer_sha256=WHY,
    )
    registration = chain.add(entry).registration(MODEL, "1")
    assert registration is not None
    return registration


def test_approvals_of_the_origin_have_the_roles_that_people_have_here(
    tmp_path: Path,
) -> None:
    registration = received_with(
        OriginApproval(by="ann", account="mlflow:ann", at=START),
        OriginApproval(by="eve", account="mlflow:eve", at=START),
    )
    found = origin_approvals_of(registration, people(tmp_path))
    assert [(each.by, each.roles, each.given_in) for each in found] == [
        ("ann", ("approver", "release_manager"), "staging"),
        ("eve", (), "staging"),
    ]


def test_an_account_of_another_machine_is_nobody_here(tmp_path: Path) -> None:
    # Number 1000 is Ann's on this machine, and anybody's on another one.
    registration = received_with(
        OriginApproval(by="eve", account="1000 (eve)", at=START),
        OriginApproval(by="ann", account=None, at=START),
    )
    assert origin_approvals_of(registration, people(tmp_path)) == ()


def test_a_version_that_was_made_here_has_no_approvals_of_elsewhere(
    tmp_path: Path,
) -> None:
    registration = Chain().add(registered()).registration(MODEL, "1")
    assert registration is not None
    assert origin_approvals_of(registration, people(tmp_path)) == ()
