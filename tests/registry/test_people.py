"""Wishes and approvals in the ledger, and which keys may sign them."""

from pathlib import Path
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.errors import BrokenLedger, IllegalEntry, LedgerError
from registry.ledger.chain import follow, signed_entry
from registry.ledger.enrolment import enrol
from registry.ledger.entries import (
    ApprovalWithdrawn,
    Approved,
    Body,
    KeyAdded,
    KeyRevoked,
    ReleaseAborted,
    Revoked,
    Role,
    WishClosed,
    Wished,
)
from registry.ledger.heads import read_record
from registry.ledger.keys import SigningKey, key_file
from registry.ledger.ledger import open_ledger
from registry.ledger.people import signers_of
from tests.support.ledgers import (
    MODEL,
    WHY,
    Chain,
    begun,
    frozen,
    judged,
    package,
    registered,
    rolled_back,
    unfrozen,
)


@pytest.fixture
def chain() -> Chain:
    return Chain()


def wished(version: str = "1", by: str = "rita") -> Wished:
    return Wished(
        by=by, account=f"mlflow:{by}", reason_sha256=WHY, model=MODEL, version=version
    )


def wish_closed(generation: int) -> WishClosed:
    return WishClosed(wished=generation, reason_sha256=WHY)


def approved(by: str, account: str, version: str = "1") -> Approved:
    return Approved(
        by=by,
        account=account,
        reason_sha256=WHY,
        model=MODEL,
        version=version,
        package_sha256=package(version),
    )


def withdrawn(by: str, account: str | None) -> ApprovalWithdrawn:
    return ApprovalWithdrawn(
        by=by, account=account, reason_sha256=WHY, model=MODEL, version="1"
    )


def revoked(version: str) -> Revoked:
    return Revoked(by="olga", reason_sha256=WHY, model=MODEL, version=version)


def open_wish(chain: Chain) -> str | None:
    wish = chain.ledger_state.model(MODEL).wish
    return None if wish is None else wish.version


def refuses(chain: Chain, body: Body, fact: str) -> None:
    before = chain.ledger_state
    with pytest.raises(IllegalEntry, match=fact):
        chain.add(body)
    assert chain.ledger_state == before


# Wishes.


def test_a_wish_is_open_until_its_release_begins(chain: Chain) -> None:
    chain.add(wished("1"))
    wish = chain.last
    recorded = chain.ledger_state.model(MODEL).wish
    assert recorded is not None
    assert (recorded.generation, recorded.version) == (wish, "1")
    assert (recorded.by, recorded.account) == ("rita", "mlflow:rita")
    chain.add(judged("1"))
    answer = begun(chain.last, "1").model_copy(update={"wished": wish})
    chain.add(answer)
    assert open_wish(chain) is None
    refuses(chain, wish_closed(wish), f"the wish of entry {wish} is not open")


def test_a_later_wish_takes_the_place_of_an_open_one(chain: Chain) -> None:
    chain.add(wished("1"))
    first = chain.last
    chain.add(wished("2"))
    assert open_wish(chain) == "2"
    refuses(chain, wish_closed(first), "is not open")
    chain.add(wish_closed(chain.last))
    assert open_wish(chain) is None


def test_a_release_answers_the_open_wish_for_its_own_version_alone(
    chain: Chain,
) -> None:
    chain.add(wished("1"))
    first = chain.last
    chain.add(wished("2"))
    chain.add(judged("1"))
    stale = begun(chain.last, "1").model_copy(update={"wished": first})
    refuses(chain, stale, f"entry {first} is no open wish for version 1")
    other = begun(chain.last, "1").model_copy(update={"wished": first + 1})
    refuses(chain, other, f"entry {first + 1} is no open wish for version 1")
    # A command may release another version meanwhile: the wish is judged against that.
    chain.add(begun(chain.last, "1"))
    assert open_wish(chain) == "2"


def test_a_command_that_releases_the_wished_version_answers_the_wish(
    chain: Chain,
) -> None:
    chain.add(wished("1"), judged("1"))
    chain.add(begun(chain.last, "1"))
    assert open_wish(chain) is None


def test_going_back_answers_a_wish(chain: Chain) -> None:
    one = chain.release("1")
    chain.release("2")
    chain.add(wished("1"))
    refuses(
        chain,
        rolled_back(one).model_copy(update={"wished": one}),
        f"entry {one} is no open wish",
    )
    chain.add(rolled_back(one).model_copy(update={"wished": chain.last}))
    assert open_wish(chain) is None
    current = chain.ledger_state.model(MODEL).current
    assert current is not None
    assert current.begun == one


@pytest.mark.parametrize("brake", ["rolled_back", "frozen", "revoked"])
def test_a_brake_ends_an_open_wish(chain: Chain, brake: str) -> None:
    one = chain.release("1")
    chain.release("2")
    chain.add(wished("3"))
    brakes: dict[str, Body] = {
        "rolled_back": rolled_back(one),
        "frozen": frozen(),
        "revoked": revoked("3"),
    }
    chain.add(brakes[brake])
    assert open_wish(chain) is None


def test_an_abort_or_the_revocation_of_another_version_leaves_a_wish(
    chain: Chain,
) -> None:
    chain.add(judged("1"))
    chain.add(begun(chain.last, "1"))
    at = chain.last
    chain.add(wished("2"), ReleaseAborted(begun=at, reason_sha256=WHY), revoked("1"))
    assert open_wish(chain) == "2"


def test_nothing_is_wished_while_releases_are_frozen_or_for_what_is_revoked(
    chain: Chain,
) -> None:
    chain.add(frozen())
    refuses(chain, wished("1"), "releases are frozen since entry 2")
    chain.add(unfrozen(), revoked("1"))
    refuses(chain, wished("1"), "version 1 of letters is revoked")


# Approvals.


def test_an_approval_is_of_the_bytes_that_the_ledger_registered(chain: Chain) -> None:
    refuses(chain, approved("ann", "mlflow:ann"), "does not know version 1")
    chain.add(registered())
    other = approved("ann", "mlflow:ann").model_copy(
        update={"package_sha256": "d" * 64}
    )
    refuses(chain, other, "registered other bytes")
    (approval,) = chain.add(approved("ann", "mlflow:ann")).approvals
    assert (approval.by, approval.account) == ("ann", "mlflow:ann")
    assert approval.package_sha256 == package("1")
    assert approval.generation == chain.last


def test_a_person_withdraws_what_the_same_person_gave_and_nobody_elses(
    chain: Chain,
) -> None:
    chain.add(
        registered(),
        approved("ann", "mlflow:ann"),
        approved("Ann", "1000 (ann)"),
        approved("bob", "mlflow:bob"),
    )
    refuses(chain, withdrawn("eve", "mlflow:eve"), "eve has not approved version 1")
    (left,) = chain.add(withdrawn("ann", "mlflow:ann")).approvals
    assert left.by == "bob"
    refuses(chain, withdrawn("ann", None), "ann has not approved")


def test_accounts_that_are_not_on_record_are_not_one_person(chain: Chain) -> None:
    chain.add(registered())
    without = approved("ann", "x").model_copy(update={"account": None})
    chain.add(without)
    refuses(chain, withdrawn("eve", None), "eve has not approved")


# Keys.


def key(role: Role) -> SigningKey:
    return SigningKey.of(Ed25519PrivateKey.generate(), role)


def added(signer: SigningKey) -> KeyAdded:
    return KeyAdded(by="olga", reason_sha256=WHY, key=signer.public)


def append_as(chain: Chain, signer: SigningKey, body: Body) -> None:
    before = chain.ledger_state
    follow(before, (signed_entry(body, before.at, before, signer),))


@pytest.mark.parametrize(
    "body", [wished(), approved("ann", "mlflow:ann"), withdrawn("bob", "mlflow:bob")]
)
def test_the_key_of_admission_signs_what_people_ask_for(
    chain: Chain, body: Body
) -> None:
    signer = key("admission")
    chain.add(registered(), approved("bob", "mlflow:bob"), added(signer))
    append_as(chain, signer, body)


def test_the_key_of_admission_signs_nothing_that_serves_or_judges(
    chain: Chain,
) -> None:
    signer = key("admission")
    one = chain.release("1")
    chain.release("2")
    chain.add(added(signer), judged("3"))
    others: tuple[Body, ...] = (
        judged("4"),
        begun(chain.last, "3"),
        rolled_back(one),
        registered("5"),
        revoked("2"),
        frozen(),
        added(key("admission")),
        KeyRevoked(by="olga", reason_sha256=WHY, key_id=chain.key.public.key_id),
    )
    for body in others:
        with pytest.raises(BrokenLedger, match="is none that the ledger trusts"):
            append_as(chain, signer, body)


def test_the_key_of_admission_signs_four_kinds_and_none_that_comes_later() -> None:
    union, _ = get_args(Body)
    kinds = {body.model_fields["kind"].default for body in get_args(union)}
    assert {"received", "origin_seen", "rescored"} <= kinds
    others = {kind for kind in kinds if signers_of(kind) != {"controller"}}
    assert others == {"wished", "wish_closed", "approved", "approval_withdrawn"}


def test_a_key_that_signs_packages_signs_no_entry(chain: Chain) -> None:
    signer = key("packaging")
    chain.add(added(signer))
    with pytest.raises(BrokenLedger, match="is none that the ledger trusts"):
        append_as(chain, signer, wished())


def test_a_home_enrols_a_key_once_and_writes_wishes_with_it(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    admission = enrol(ledger, "admission", "olga")
    again = enrol(ledger, "admission", "olga")
    assert again.public == admission.public
    assert key_file(tmp_path, "admission").stat().st_mode & 0o077 == 0
    assert [entry.body.kind for entry in ledger.entries()] == ["opened", "key_added"]
    receiving = open_ledger(tmp_path, role="admission")
    before = read_record(tmp_path)
    receiving.append(wished(), receiving.state())
    assert ledger.entries()[-1].key_id == admission.public.key_id
    # What vouches for revocations is not written with that key.
    assert read_record(tmp_path) == before
    with pytest.raises(BrokenLedger, match="is none that the ledger trusts"):
        receiving.append(frozen(), receiving.state())
    assert len(ledger.entries()) == 3


def test_a_key_that_was_not_enrolled_writes_nothing(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    enrol(ledger, "admission", "olga")
    key_file(tmp_path, "admission").unlink()
    receiving = open_ledger(tmp_path, role="admission")
    with pytest.raises(LedgerError, match=r"admission\.pem is not there"):
        receiving.append(wished(), receiving.state())
    # The controller's key under another name is not that of admission.
    controller = key_file(tmp_path).read_bytes()
    key_file(tmp_path, "admission").write_bytes(controller)
    key_file(tmp_path, "admission").chmod(0o600)
    with pytest.raises(LedgerError, match="not one that the ledger trusts"):
        receiving.append(wished(), receiving.state())


def test_what_a_stolen_key_signed_counts_no_more_and_the_rest_does(
    chain: Chain,
) -> None:
    stolen, other = key("admission"), key("admission")
    chain.add(registered(), added(stolen), added(other))
    for signer, by in ((stolen, "ann"), (other, "bob")):
        append_to(chain, signer, approved(by, f"mlflow:{by}"))
    append_to(chain, stolen, wished("1"))
    taken = KeyRevoked(by="olga", reason_sha256=WHY, key_id=stolen.public.key_id)
    chain.add(taken)
    # Replaced in good order: what it signed stands.
    assert [each.by for each in chain.ledger_state.approvals] == ["ann", "bob"]
    assert open_wish(chain) == "1"
    chain.add(taken.model_copy(update={"is_compromised": True}))
    assert [each.by for each in chain.ledger_state.approvals] == ["bob"]
    assert open_wish(chain) is None
    append_to(chain, other, wished("1"))
    chain.add(
        KeyRevoked(
            by="olga",
            reason_sha256=WHY,
            key_id=chain_key(chain),
            is_compromised=True,
        )
    )
    assert open_wish(chain) == "1"


def chain_key(chain: Chain) -> str:
    """A packaging key that the chain trusts, which signed no wish."""
    packaging = key("packaging")
    chain.add(added(packaging))
    return packaging.public.key_id


def append_to(chain: Chain, signer: SigningKey, body: Body) -> None:
    before = chain.ledger_state
    entry = signed_entry(body, before.at, before, signer)
    chain.ledger_state = follow(before, (entry,))
    chain.entries.append(entry)
