"""Keys in the ledger: revoked, stolen, and whose signature on a package counts."""

from pathlib import Path

import pytest

from core.errors import IllegalEntry, LedgerError
from registry.ledger.chain import body_text, entry_hash
from registry.ledger.enrolment import enrol, enrol_packaging
from registry.ledger.entries import (
    Body,
    Judged,
    KeyAdded,
    KeyRevoked,
    PublicKey,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    Role,
)
from registry.ledger.key_steps import find_distrust
from registry.ledger.ledger import Ledger, open_ledger
from registry.ledger.packaging_key import PackagingKey, create_packaging_key
from registry.ledger.rotation import KeyOrder, revoke_key, rotate_role
from registry.ledger.state import LedgerState
from tests.support.ledgers import (
    WHY,
    Chain,
    adapter,
    begun,
    judged,
    registered,
    rolled_back,
)

ORDER = KeyOrder("olga", "every year", "7 (olga)")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PackagingKey:
    return create_packaging_key(tmp_path_factory.mktemp("home") / "keys/packaging.pem")


@pytest.fixture
def chain(key: PackagingKey) -> Chain:
    """A ledger that trusts the packaging key (entry 2) and knows version 1 (entry 3)."""
    chain = Chain()
    chain.add(added(key), registered("1"))
    return chain


def added(key: PackagingKey) -> KeyAdded:
    return KeyAdded(by="olga", reason_sha256=WHY, key=key.public)


def revoked(key: PackagingKey, *, is_compromised: bool = False) -> KeyRevoked:
    return KeyRevoked(
        by="olga",
        reason_sha256=WHY,
        key_id=key.public.key_id,
        is_compromised=is_compromised,
    )


def passed(
    key: PackagingKey, registration: int | None = 3, version: str = "1"
) -> Judged:
    plain = judged(version, adapter_sha256=adapter(version), registration=registration)
    return plain.model_copy(update={"signed_by": key.public.key_id})


def release(chain: Chain, key: PackagingKey, *, signed: bool = True) -> ReleaseBegun:
    """The release of the verdict that was entered last."""
    body = begun(chain.last, "1")
    if not signed:
        return body
    subject = body.release.model_copy(update={"signed_by": key.public.key_id})
    return body.model_copy(update={"release": subject})


def complete(chain: Chain) -> int:
    at = chain.last
    chain.add(ReleaseSwitched(begun=at), ReleaseCompleted(begun=at))
    return at


def refused(chain: Chain, body: Body) -> str:
    with pytest.raises(IllegalEntry) as caught:
        chain.add(body)
    return str(caught.value)


def test_a_signed_version_is_judged_and_released(
    chain: Chain, key: PackagingKey
) -> None:
    chain.add(passed(key))
    chain.add(release(chain, key))
    complete(chain)
    current = chain.ledger_state.model("letters").current
    assert current is not None
    assert current.release.signed_by == key.public.key_id


def test_a_release_names_the_signature_that_was_judged(
    chain: Chain, key: PackagingKey
) -> None:
    chain.add(passed(key))
    assert "another signature" in refused(chain, release(chain, key, signed=False))


def test_a_rotation_takes_nothing_from_what_was_registered_before(
    chain: Chain, key: PackagingKey
) -> None:
    chain.add(revoked(key), passed(key))
    chain.add(release(chain, key))
    assert chain.ledger_state.compromised_at(key.public.key_id) is None


def test_a_revoked_key_counts_for_nothing_that_is_registered_later(
    chain: Chain, key: PackagingKey
) -> None:
    chain.add(revoked(key), registered("2"))
    fact = refused(chain, passed(key, registration=5, version="2"))
    assert "was revoked at entry 4, before the version was entered at entry 5" in fact


def test_a_key_that_was_added_later_counts_for_what_is_signed_again(
    key: PackagingKey,
) -> None:
    chain = Chain()
    chain.add(registered("1"), added(key), passed(key, registration=2))


def test_a_stolen_key_stops_a_new_verdict_and_a_new_release(
    chain: Chain, key: PackagingKey
) -> None:
    chain.add(passed(key))
    at = chain.last
    chain.add(revoked(key, is_compromised=True))
    assert "revoked as compromised (entry 5)" in refused(chain, passed(key))
    body = release(chain, key).model_copy(update={"judged": at})
    assert "revoked as compromised (entry 5)" in refused(chain, body)


def test_what_serves_goes_on_and_a_rollback_stays_possible_with_a_stolen_key(
    chain: Chain, key: PackagingKey
) -> None:
    chain.add(passed(key))
    chain.add(release(chain, key))
    first = complete(chain)
    chain.add(registered("2"))
    chain.add(judged("2", adapter_sha256=adapter("2"), registration=chain.last))
    chain.add(begun(chain.last, "2"))
    complete(chain)
    chain.add(revoked(key, is_compromised=True))
    chain.add(rolled_back(first))
    current = chain.ledger_state.model("letters").current
    assert current is not None
    assert current.release.version == "1"


def test_a_rotated_key_may_turn_out_to_be_stolen_once(
    chain: Chain, key: PackagingKey
) -> None:
    chain.add(revoked(key))
    assert "revoked already" in refused(chain, revoked(key))
    chain.add(revoked(key, is_compromised=True))
    known = chain.ledger_state.revoked_keys[key.public.key_id]
    assert (known.generation, known.compromised_at) == (4, 5)
    assert "revoked already" in refused(chain, revoked(key, is_compromised=True))
    assert "revoked already" in refused(chain, revoked(key))


def test_a_revoked_key_does_not_come_back(chain: Chain, key: PackagingKey) -> None:
    assert "there already" in refused(chain, added(key))
    chain.add(revoked(key))
    assert "was revoked at entry 4" in refused(chain, added(key))
    assert chain.ledger_state.known_key(key.public.key_id) == key.public


def test_only_packaging_keys_sign_packages(chain: Chain) -> None:
    for key_id in (chain.key.public.key_id, "0" * 64):
        fact = find_distrust(chain.ledger_state, key_id, 3)
        assert "no packaging key that the ledger knows" in fact


def test_a_signature_without_a_registration_does_not_count(
    key: PackagingKey,
) -> None:
    chain = Chain()
    chain.add(added(key))
    assert "no registration" in refused(chain, passed(key, registration=None))


def test_a_packaging_key_signs_no_entry_whatever_its_kind(
    chain: Chain, key: PackagingKey
) -> None:
    assert chain.ledger_state.key(key.public.key_id) == key.public
    assert chain.ledger_state.controller_keys == (chain.key.public,)


def test_entries_from_before_there_were_signatures_keep_their_text(
    chain: Chain, key: PackagingKey
) -> None:
    chain.add(judged("1", adapter_sha256=adapter("1"), registration=3))
    texts = [body_text(entry) for entry in chain.entries]
    for new in ("signed_by", "is_compromised"):
        assert not any(new in text for text in texts)
    # Only a key of the new kind names its kind.
    assert ["algorithm" in text for text in texts] == [False, True, False, False]
    assert [entry_hash(entry) for entry in chain.entries] == [
        entry.hash for entry in chain.entries
    ]


def test_a_home_enrols_its_packaging_key_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    ledger = open_ledger(tmp_path)
    key = enrol_packaging(ledger, "olga")
    assert enrol_packaging(ledger, "olga") == key
    assert ledger.state().key(key.public.key_id) == key.public
    assert ledger.state().head.generation == 2
    ledger.append(revoked(key), ledger.state())
    with pytest.raises(LedgerError, match="rotate-key --role packaging"):
        enrol_packaging(ledger, "olga")


class Killed(BaseException):
    """The process is gone."""


class KilledAfter(Ledger):
    """A ledger whose process is killed right after the given append."""

    appends = 0

    def append(self, body: Body, expected: LedgerState) -> LedgerState:
        ledger_state = super().append(body, expected)
        self.appends -= 1
        if self.appends == 0:
            raise Killed
        return ledger_state


@pytest.mark.parametrize("role", ["packaging", "admission"])
@pytest.mark.parametrize("appends", [1, 2])
def test_a_rotation_of_a_role_that_was_killed_ends_well_at_the_second_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Role, appends: int
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    ledger = open_ledger(tmp_path)
    enrolled = enrol_any(ledger, role)
    killed = KilledAfter(tmp_path, ledger.database)
    killed.appends = appends
    with pytest.raises(Killed):
        rotate_role(killed, role, ORDER)
    new = rotate_role(open_ledger(tmp_path), role, ORDER)
    ledger_state = ledger.state()
    assert [key.role for key in ledger_state.keys] == ["controller", role]
    assert ledger_state.keys[1] == new == enrol_any(ledger, role)
    assert set(ledger_state.revoked_keys) == {enrolled.key_id}
    assert not list((tmp_path / "keys").glob("next*"))
    # An entry for each of both, however often it is tried.
    assert ledger_state.head.generation == 4


def enrol_any(ledger: Ledger, role: Role) -> PublicKey:
    if role == "packaging":
        return enrol_packaging(ledger, "olga").public
    return enrol(ledger, role, "olga").public


def test_a_role_without_a_key_gets_its_first_one_by_a_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    ledger = open_ledger(tmp_path)
    key = rotate_role(ledger, "packaging", ORDER)
    assert enrol_any(ledger, "packaging") == key
    assert ledger.state().revoked_keys == {}


def test_a_key_is_revoked_by_the_beginning_of_its_id_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    ledger = open_ledger(tmp_path)
    key = enrol_any(ledger, "packaging")
    for name in ("", key.key_id[:7], "zzzzzzzzz", key.key_id + "0"):
        with pytest.raises(LedgerError, match="assay audit keys"):
            revoke_key(ledger, name, ORDER, is_compromised=False)
    assert revoke_key(ledger, key.key_id[:8], ORDER, is_compromised=False) == key
    revoke_key(ledger, key.key_id, ORDER, is_compromised=True)
    assert ledger.state().compromised_at(key.key_id) == 4
    controller = ledger.state().controller_keys[0]
    with pytest.raises(IllegalEntry, match="last key of the controller"):
        revoke_key(ledger, controller.key_id, ORDER, is_compromised=True)
