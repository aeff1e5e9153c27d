"""Versions of other installations in the ledger: which heads follow, whose keys count for what."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.errors import IllegalEntry
from registry.ledger.chain import follow
from registry.ledger.entries import (
    Judged,
    KeyAdded,
    KeyRevoked,
    OriginApproval,
    OriginHead,
    OriginSeen,
    PublicKey,
    Received,
)
from registry.ledger.key_steps import find_distrust
from registry.ledger.packaging_key import create_packaging_key
from tests.support.ledgers import (
    START,
    WHY,
    Chain,
    adapter,
    begun,
    judged,
    made,
    package,
    registered,
)

STAGING = "5" * 32


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> PublicKey:
    home = tmp_path_factory.mktemp("staging")
    return create_packaging_key(home / "keys/packaging.pem").public


def head(
    generation: int = 9,
    name: str = "staging",
    ledger_id: str = STAGING,
    digest: str = "9" * 64,
) -> OriginHead:
    return OriginHead(
        name=name, ledger_id=ledger_id, generation=generation, hash=digest
    )


def received(version: str = "1", **changes: Any) -> Received:
    facts = {
        **made(version).model_dump(),
        "by": "lena",
        "account": "5 (lena)",
        "origin": head(),
        "version_there": "7",
        "entered_there": 3,
        "made_at": START - timedelta(days=3),
        "transfer_sha256": WHY,
        **changes,
    }
    return Received.model_validate(facts)


def seen(origin: OriginHead, *revoked: str) -> OriginSeen:
    return OriginSeen(origin=origin, revoked_adapters=revoked)


def passed(registration: int, version: str = "1", signer: str | None = None) -> Judged:
    verdict = judged(
        version, registration=registration, adapter_sha256=adapter(version)
    )
    return verdict.model_copy(update={"signed_by": signer})


def test_a_received_version_is_judged_and_released_as_a_registered_one_is() -> None:
    chain = Chain()
    chain.add(received(), passed(2))
    chain.add(begun(3))
    registration = chain.ledger_state.registration("letters", "1")
    assert registration is not None
    assert registration.received is not None
    assert registration.received.version_there == "7"
    assert chain.ledger_state.origins == {"staging": head()}
    # Read from its rows again it is the same.
    assert follow(None, chain.entries) == chain.ledger_state


def test_other_bytes_than_were_received_are_not_judged() -> None:
    chain = Chain()
    chain.add(received("2"))
    with pytest.raises(IllegalEntry, match="not the registration"):
        chain.add(passed(2, "1"))


def test_the_same_bytes_are_not_received_twice_under_one_number() -> None:
    chain = Chain()
    chain.add(received())
    with pytest.raises(IllegalEntry, match="in the ledger already, since entry 2"):
        chain.add(received(origin=head(10)))
    other = received(package_sha256=package("8"), origin=head(10))
    assert chain.add(other).registration("letters", "1") is not None


@pytest.mark.parametrize(
    ("origin", "why"),
    [
        (head(8), "older copy"),
        (head(9, digest="8" * 64), "rewritten"),
        (head(12, ledger_id="6" * 32), "came as staging"),
        (head(12, name="dev"), "came as dev, and staging was ledger 555555555555"),
        (head(9, name="own", ledger_id="1" * 32), "this very ledger"),
    ],
)
def test_a_head_that_does_not_follow_what_was_read_is_refused(
    origin: OriginHead, why: str
) -> None:
    chain = Chain()
    chain.add(received())
    for body in (received("2", origin=origin), seen(origin)):
        with pytest.raises(IllegalEntry, match=why):
            chain.add(body)


def test_a_second_installation_has_a_ledger_of_its_own() -> None:
    chain = Chain()
    # Each is followed by itself: entry 4 of one is not older than entry 9 of the other.
    other = head(4, name="dev", ledger_id="6" * 32)
    chain.add(received(), received("2", origin=other), received("3"))
    assert set(chain.ledger_state.origins) == {"staging", "dev"}


def test_a_newer_head_is_seen_once() -> None:
    chain = Chain()
    chain.add(received(), seen(head(10)))
    assert chain.ledger_state.origins["staging"].generation == 10
    with pytest.raises(IllegalEntry, match="was read as far as that already"):
        chain.add(seen(head(10)))


def test_what_is_revoked_in_its_origin_is_not_released_any_more() -> None:
    chain = Chain()
    chain.add(received(), passed(2))
    chain.add(seen(head(10), adapter("1")))
    assert chain.ledger_state.revoked_in_origin == {adapter("1"): 4}
    with pytest.raises(IllegalEntry, match="revoked where it came from, by entry 4"):
        chain.add(begun(3))
    # The entry that said so first stays the one that is named.
    chain.add(seen(head(11), adapter("1")))
    assert chain.ledger_state.revoked_in_origin == {adapter("1"): 4}


def test_what_serves_goes_on_serving_when_its_origin_revokes_it() -> None:
    chain = Chain()
    chain.add(received())
    chain.add(passed(2), begun(3))
    chain.add(seen(head(10), adapter("1")))
    assert chain.ledger_state.model("letters").pending is not None


def test_a_key_of_another_installation_counts_for_what_came_with_it_alone(
    foreign: PublicKey,
) -> None:
    chain = Chain()
    chain.add(received(signer=foreign), registered("2"), received("3"))
    state, key_id = chain.ledger_state, foreign.key_id
    assert find_distrust(state, key_id, 2) == ""
    for other in (3, 4):
        assert "of another installation" in find_distrust(state, key_id, other)
    chain.add(passed(2, signer=key_id))
    with pytest.raises(IllegalEntry, match="of another installation"):
        chain.add(passed(3, "2", signer=key_id))
    # The endpoint finds it by its id.
    assert chain.ledger_state.known_key(key_id) == foreign


def test_a_key_of_another_installation_signs_no_entries(foreign: PublicKey) -> None:
    chain = Chain()
    chain.add(received(signer=foreign))
    assert chain.ledger_state.key(foreign.key_id) is None


def test_a_key_that_is_the_own_one_too_counts_for_own_versions(
    foreign: PublicKey,
) -> None:
    chain = Chain()
    # As where somebody copied a home with its keys.
    own = KeyAdded(by="olga", reason_sha256=WHY, key=foreign)
    chain.add(own, registered("2"), received(signer=foreign), registered("3"))
    # As after `assay audit rotate-key`: what was entered before it still counts.
    chain.add(revocation(foreign, is_compromised=False))
    for entered in (3, 4, 5):
        assert find_distrust(chain.ledger_state, foreign.key_id, entered) == ""


def revocation(key: PublicKey, *, is_compromised: bool) -> KeyRevoked:
    return KeyRevoked(
        by="olga",
        reason_sha256=WHY,
        key_id=key.key_id,
        is_compromised=is_compromised,
    )


def test_a_key_of_another_installation_can_be_revoked_here(foreign: PublicKey) -> None:
    chain = Chain()
    chain.add(received(signer=foreign), revocation(foreign, is_compromised=True))
    reason = find_distrust(chain.ledger_state, foreign.key_id, 2)
    assert "revoked as compromised (entry 3)" in reason
    with pytest.raises(IllegalEntry, match="was revoked here, at entry 3"):
        chain.add(received("2", signer=foreign))


def test_a_plain_revocation_leaves_what_came_before_it(foreign: PublicKey) -> None:
    chain = Chain()
    chain.add(received(signer=foreign), revocation(foreign, is_compromised=False))
    assert find_distrust(chain.ledger_state, foreign.key_id, 2) == ""


def test_a_key_for_entries_is_not_taken_for_one_of_packages() -> None:
    chain = Chain()
    with pytest.raises(IllegalEntry, match="signs no packages"):
        chain.add(received(signer=chain.key.public))


def test_a_key_that_is_known_here_for_something_else_is_refused(
    foreign: PublicKey,
) -> None:
    chain = Chain()
    disguised = chain.key.public.model_copy(update={"role": "packaging"})
    with pytest.raises(IllegalEntry, match="known here for something else"):
        chain.add(received(signer=disguised))


def test_the_entry_keeps_who_approved_and_released_it_there() -> None:
    approval = OriginApproval(by="rita", account="mlflow:rita", at=START)
    chain = Chain()
    chain.add(received(approvals=(approval,), released_by="olga"))
    registration = chain.ledger_state.registration("letters", "1")
    assert registration is not None
    assert registration.received is not None
    assert registration.received.approvals == (approval,)


def test_a_home_reads_back_what_it_wrote(tmp_path: Path, foreign: PublicKey) -> None:
    from registry.ledger.audit import export, verify_export
    from registry.ledger.ledger import open_ledger, read_ledger
    from tests.support.ledgers import write

    write(open_ledger(tmp_path), received(signer=foreign), seen(head(10)))
    assert read_ledger(tmp_path).state().origins["staging"].generation == 10
    export(read_ledger(tmp_path), tmp_path / "export.jsonl")
    assert verify_export(tmp_path / "export.jsonl").is_whole
