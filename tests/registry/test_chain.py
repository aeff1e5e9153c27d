"""What the hashes, the signatures and the keys find out."""

import os
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pydantic import ValidationError

from core.errors import BrokenLedger, LedgerError
from registry.ledger.chain import (
    GENESIS,
    check_remembered,
    entry_hash,
    follow,
    signed_entry,
)
from registry.ledger.entries import (
    Entry,
    KeyAdded,
    KeyRevoked,
    Opened,
    PublicKey,
    ReleaseAborted,
    Waived,
    body_document,
)
from registry.ledger.keys import SigningKey, create_key, key_file, load_key
from registry.ledger.ledger import Ledger, open_ledger
from registry.ledger.rotation import rotate
from tests.support.ledgers import MODEL, START, WHY, Chain, frozen, judged, unfrozen


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    chain.add(frozen(), unfrozen(), judged())
    return chain


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def edited(entry: Entry, **changes: object) -> Entry:
    return entry.model_copy(update=changes)


def rehashed(entry: Entry, **changes: object) -> Entry:
    changed = edited(entry, **changes)
    return edited(changed, hash=entry_hash(changed))


def breaks(entries: list[Entry], words: str) -> None:
    with pytest.raises(BrokenLedger, match=words):
        follow(None, entries)


def test_what_was_written_follows(chain: Chain) -> None:
    assert follow(None, chain.entries) == chain.ledger_state
    assert chain.entries[0].previous == GENESIS


def test_every_part_of_an_entry_is_under_its_hash(chain: Chain) -> None:
    one = chain.entries[1]
    others = [
        edited(one, generation=3),
        edited(one, at=one.at + timedelta(microseconds=1)),
        edited(one, body=frozen("eve")),
        edited(one, previous="1" * 64),
        edited(one, key_id="1" * 64),
    ]
    assert len({entry_hash(each) for each in (one, *others)}) == 6


def test_the_same_moment_in_another_zone_hashes_to_the_same(chain: Chain) -> None:
    from datetime import timezone

    one = chain.entries[1]
    assert (
        entry_hash(edited(one, at=one.at.astimezone(timezone(timedelta(hours=5)))))
        == one.hash
    )


def test_a_field_at_its_default_is_not_under_the_hash_so_that_bodies_may_grow() -> None:
    assert "waivers" not in body_document(judged())
    assert body_document(judged(waivers=(2,)))["waivers"] == [2]
    assert "by" not in body_document(ReleaseAborted(begun=7, reason_sha256=WHY))
    assert (
        body_document(ReleaseAborted(begun=7, reason_sha256=WHY, by="olga"))["by"]
        == "olga"
    )
    assert body_document(frozen())["kind"] == "frozen"


def test_an_edited_body_is_named(chain: Chain) -> None:
    chain.entries[1] = edited(chain.entries[1], body=frozen("eve"))
    breaks(chain.entries, "Entry 2 is broken: its contents are not what was hashed")


def test_an_edited_body_with_a_new_hash_is_named_by_its_signature(chain: Chain) -> None:
    chain.entries[1] = rehashed(chain.entries[1], body=frozen("eve"))
    breaks(chain.entries, "Entry 2 is broken: its signature")


def test_an_entry_signed_anew_breaks_the_one_after_it(chain: Chain) -> None:
    one = chain.entries[1]
    chain.entries[1] = signed_entry(
        frozen("eve"), one.at, follow(None, chain.entries[:1]), chain.key
    )
    breaks(chain.entries, "Entry 3 is broken: it does not follow")


def test_a_dropped_entry_is_named(chain: Chain) -> None:
    breaks(
        [*chain.entries[:1], *chain.entries[2:]],
        "Entry 2 is broken: it is missing, and entry 3 is in its place",
    )
    breaks(chain.entries[1:], "Entry 1 is broken")
    breaks([], "no entry")


def test_exchanged_entries_are_named(chain: Chain) -> None:
    two, three = chain.entries[1], chain.entries[2]
    chain.entries[1:3] = [edited(three, generation=2), edited(two, generation=3)]
    breaks(chain.entries, "Entry 2 is broken: it does not follow the entry before it")


def test_a_foreign_signature_is_named(chain: Chain) -> None:
    stranger = Chain().key
    before = follow(None, chain.entries[:1])
    chain.entries[1] = signed_entry(frozen(), before.at, before, stranger)
    breaks(chain.entries, "none that the ledger trusts")
    forged = edited(chain.entries[1], key_id=chain.key.public.key_id)
    chain.entries[1] = edited(
        forged, hash=entry_hash(forged), signature=stranger.sign(entry_hash(forged))
    )
    breaks(chain.entries, "its signature is not of key")


def test_time_never_goes_back(chain: Chain) -> None:
    chain.entries.append(
        signed_entry(
            frozen(),
            chain.ledger_state.at - timedelta(hours=1),
            chain.ledger_state,
            chain.key,
        )
    )
    breaks(chain.entries, "Entry 5 is broken: it is older")


def test_the_first_entry_is_an_opening_signed_by_the_key_that_it_brings() -> None:
    one, other = Chain().key, Chain().key
    breaks(
        [signed_entry(Opened(ledger_id="1" * 32, key=one.public), START, None, other)],
        "none that the ledger trusts",
    )
    breaks([signed_entry(frozen(), START, None, one)], "none that the ledger trusts")


def test_only_a_key_of_the_controller_signs_and_a_revoked_one_no_more(
    chain: Chain,
) -> None:
    second, packaging = Chain().key, Chain().key
    chain.add(KeyAdded(by="olga", reason_sha256=WHY, key=second.public))
    chain.add(
        KeyAdded(
            by="olga",
            reason_sha256=WHY,
            key=packaging.public.model_copy(update={"role": "packaging"}),
        )
    )
    breaks(
        [
            *chain.entries,
            signed_entry(
                frozen(), chain.ledger_state.at, chain.ledger_state, packaging
            ),
        ],
        "none that the ledger trusts",
    )
    old, chain.key = chain.key, second
    chain.add(
        KeyRevoked(by="olga", reason_sha256=WHY, key_id=old.public.key_id), frozen()
    )
    assert follow(None, chain.entries) == chain.ledger_state
    breaks(
        [
            *chain.entries,
            signed_entry(unfrozen(), chain.ledger_state.at, chain.ledger_state, old),
        ],
        "none that the ledger trusts",
    )


def test_a_key_is_named_by_its_own_bytes() -> None:
    key = Chain().key.public
    with pytest.raises(ValidationError, match="not the SHA-256"):
        PublicKey(role="controller", key_id=WHY, public=key.public)


def test_what_is_remembered_must_still_be_there(chain: Chain) -> None:
    head = chain.ledger_state.head
    check_remembered(head, chain.entries[-1])
    with pytest.raises(BrokenLedger, match="tail was cut off or an old copy"):
        check_remembered(head, None)
    with pytest.raises(BrokenLedger, match="another one was in its place before"):
        check_remembered(head, rehashed(chain.entries[-1], body=judged("2")))
    with pytest.raises(BrokenLedger, match="was edited"):
        check_remembered(
            head, chain.entries[-1].model_copy(update={"body": judged("2")})
        )


def test_a_waivers_end_keeps_its_hash_through_json() -> None:
    chain = Chain()
    chain.add(
        Waived(
            by="olga",
            reason_sha256=WHY,
            rule="human_rating",
            model=MODEL,
            until=START + timedelta(hours=24, microseconds=5),
        )
    )
    assert (
        follow(
            None,
            [
                Entry.model_validate_json(each.model_dump_json())
                for each in chain.entries
            ],
        )
        == chain.ledger_state
    )


def test_the_key_is_for_its_owner_alone_and_made_once(home: Path) -> None:
    old = os.umask(0)
    try:
        key = create_key(home)
    finally:
        os.umask(old)
    assert key_file(home).stat().st_mode & 0o777 == 0o600
    assert key_file(home).parent.stat().st_mode & 0o777 == 0o700
    assert create_key(home).public == load_key(home).public == key.public
    assert [each.name for each in (home / "keys").iterdir()] == ["controller.pem"]


def test_openssl_reads_the_key_as_ed25519(home: Path) -> None:
    key = create_key(home)
    told = subprocess.run(
        ["openssl", "pkey", "-in", key_file(home), "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ED25519" in told.stdout
    assert key.public.public in "".join(told.stdout.split("pub:")[1].split()).replace(
        ":", ""
    )


def _other_kind() -> bytes:
    return X25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def test_a_key_that_others_can_read_or_swap_or_that_is_no_key_is_refused(
    home: Path,
) -> None:
    create_key(home)
    path = key_file(home)
    path.chmod(0o640)
    with pytest.raises(LedgerError, match=f"chmod 600 {path}"):
        load_key(home)
    path.chmod(0o600)
    path.parent.chmod(0o770)
    with pytest.raises(LedgerError, match=f"chmod 700 {path.parent}"):
        load_key(home)
    path.parent.chmod(0o700)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(LedgerError, match="not a whole private key"):
        load_key(home)
    path.write_bytes(_other_kind())
    with pytest.raises(LedgerError, match="not an Ed25519 key"):
        load_key(home)
    path.unlink()
    with pytest.raises(LedgerError, match="is not there"):
        load_key(home)


def test_a_key_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file where the folder goes")
    with pytest.raises(LedgerError, match="cannot be written"):
        create_key(tmp_path)


def test_after_a_rotation_the_new_key_signs_and_the_old_one_no_more(home: Path) -> None:
    ledger = open_ledger(home)
    old = load_key(home)
    ledger_state = rotate(ledger, home, "olga", "every year")
    new = load_key(home)
    assert ledger_state.keys == (new.public,)
    assert new.public != old.public
    assert ledger.append(frozen(), ledger_state).head.generation == 4
    assert ledger.recall(ledger.entries()[1].body.reason_sha256) == "every year"  # type: ignore[union-attr]
    assert not (home / "keys" / "next.pem").exists()


class Killed(BaseException):
    """The process is gone."""


class KilledAfter(Ledger):
    """A ledger whose process is killed at the given append: before it, or after it."""

    appends, before = 0, True

    def append(self, body, expected):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        self.appends -= 1
        if self.appends == 0 and self.before:
            raise Killed
        ledger_state = super().append(body, expected)
        if self.appends == 0:
            raise Killed
        return ledger_state


@pytest.mark.parametrize("appends", [1, 2])
@pytest.mark.parametrize("before", [True, False])
def test_a_rotation_that_was_killed_ends_well_at_the_second_call(
    home: Path, appends: int, before: bool
) -> None:
    open_ledger(home)
    old = load_key(home)
    killed = KilledAfter(home, open_ledger(home).database)
    killed.appends, killed.before = appends, before
    with pytest.raises(Killed):
        rotate(killed, home, "olga", "every year")
    assert open_ledger(home).state().key(load_key(home).public.key_id) is not None
    ledger_state = rotate(open_ledger(home), home, "olga", "every year")
    assert ledger_state.keys == (load_key(home).public,)
    if (
        (appends, before) != (2, False)
    ):  # there the first call had come to its end, and the second is a rotation of its own
        assert ledger_state.head.generation == 3
    assert old.public not in ledger_state.keys
    assert open_ledger(home).append(frozen(), ledger_state).frozen is not None


def test_a_signing_key_signs_for_the_controller() -> None:
    assert SigningKey.of(Ed25519PrivateKey.generate()).public.role == "controller"
