"""What an installation believes of another one's ledger: by rules alone, without any MLflow."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.errors import BrokenLedger, TransferRefused
from core.files import sha256_of, write_text
from registry.ledger.chain import follow
from registry.ledger.entries import (
    Approved,
    Entry,
    KeyAdded,
    KeyRevoked,
    OriginHead,
    OriginSeen,
    PublicKey,
    Received,
    ReleaseCompleted,
    ReleaseSwitched,
    Revoked,
    body_document,
    canonical_time,
)
from registry.ledger.export_signers import find_signers
from registry.ledger.keys import SigningKey
from registry.ledger.packaging_key import create_packaging_key
from registry.release.environments import Source
from registry.release.package_signature import digest_of_package, sign_package
from registry.release.transfer import (
    LEDGER,
    RECORD,
    OriginLedger,
    TransferRecord,
    Vouched,
    check_follows,
    entry_of,
    find_fit,
    find_revoked,
    find_signer,
    read_origin,
    read_record,
    vouch,
)
from tests.support.confirmations import closed as block_closed
from tests.support.confirmations import opened as block_opened
from tests.support.ledgers import (
    MODEL,
    START,
    WHY,
    Chain,
    adapter,
    adopted,
    begun,
    judged,
    made,
    package,
    registered,
)

BY = {"by": "olga", "reason_sha256": WHY}


@dataclass(frozen=True)
class Files:
    """A transfer's folder without its package."""

    folder: Path

    def write(self, entries: list[Entry], **changes: Any) -> "Files":
        """The ledger of these entries, and a record of version 1."""
        lines = [json.dumps({"entry": document(entry)}) for entry in entries]
        state = follow(None, entries)
        lines.append(json.dumps({"head": state.head.model_dump()}))
        write_text(self.folder / LEDGER, "\n".join(lines) + "\n")
        facts = {
            "model": MODEL,
            "version": "1",
            "package_sha256": package("1"),
            "ledger_sha256": sha256_of(self.folder / LEDGER),
            **changes,
        }
        TransferRecord.model_validate(facts).write(self.folder / RECORD)
        return self


def document(entry: Entry) -> dict[str, Any]:
    return {
        **entry.model_dump(mode="json"),
        "at": canonical_time(entry.at),
        "body": body_document(entry.body),
    }


def listed(chain: Chain, name: str = "staging") -> dict[str, Source]:
    return {name: Source(ledger_key=chain.key.public.key_id)}


def origin_of(chain: Chain, name: str = "staging") -> OriginLedger:
    return OriginLedger(name, tuple(chain.entries), chain.ledger_state)


def revoked_key(key_id: str, *, is_compromised: bool) -> KeyRevoked:
    return KeyRevoked(**BY, key_id=key_id, is_compromised=is_compromised)


def verdict(registration: int, outcome: str = "passed", version: str = "1") -> Any:
    return judged(
        version,
        verdict=outcome,
        registration=registration,
        adapter_sha256=adapter(version),
    )


@pytest.fixture
def chain() -> Chain:
    """Staging's ledger: version 1 is registered (entry 2) and judged (entry 3)."""
    chain = Chain("5" * 32)
    chain.add(registered(), verdict(2))
    return chain


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# Whose ledger it is.


def test_a_ledger_is_of_whoever_signed_in_it(chain: Chain, files: Files) -> None:
    export = files.write(chain.entries).folder / LEDGER
    # The first on the list is somebody else.
    trusted = {"dev": Source(ledger_key="0" * 64), **listed(chain)}
    origin = read_origin(export, trusted)
    assert origin.head == OriginHead(
        name="staging",
        ledger_id=chain.ledger_state.head.ledger_id,
        generation=3,
        hash=chain.entries[-1].hash,
    )


def test_a_key_that_was_only_added_vouches_for_nothing(
    chain: Chain, files: Files
) -> None:
    # A forger knows the public half of everybody's key.
    theirs = Chain()
    chain.add(KeyAdded(**BY, key=theirs.key.public))
    export = files.write(chain.entries).folder / LEDGER
    shown = chain.key.public.key_id[:12]
    with pytest.raises(TransferRefused, match=shown):
        read_origin(export, listed(theirs))


def test_nobody_is_believed_where_nobody_is_listed(chain: Chain, files: Files) -> None:
    export = files.write(chain.entries).folder / LEDGER
    with pytest.raises(TransferRefused, match="is signed by none"):
        read_origin(export, {})


def test_a_long_ledger_of_somebody_who_is_not_listed_is_not_followed(
    files: Files,
) -> None:
    """Anybody may send one, and to follow it takes the controller's time by the square of it."""
    theirs = Chain()
    forged = Chain()
    forged.add(registered(), KeyAdded(**BY, key=theirs.key.public))
    # One that names the listed key as its signer, and one of the real ledger.
    named = forged.entries[1].model_copy(update={"key_id": theirs.key.public.key_id})
    copied = theirs.entries[0].model_copy(update={"hash": "0" * 64})
    export = files.write(forged.entries).folder / LEDGER
    *whole, last, head = export.read_text().splitlines()
    added = [json.dumps({"entry": document(entry)}) for entry in (named, copied)]
    export.write_text("\n".join([*whole, *added, last, head]) + "\n")
    found = find_signers(export, {theirs.key.public.key_id})
    assert not found.is_listed
    assert found.controllers[0] == forged.key.public.key_id
    with pytest.raises(TransferRefused, match="is signed by none"):
        read_origin(export, listed(theirs))
    # That it is broken is not even found out: nothing of it was followed.
    text = export.read_text()
    export.write_text(text.replace('"lena"', '"rita"'))
    with pytest.raises(TransferRefused, match="is signed by none"):
        read_origin(export, listed(theirs))
    assert find_signers(export, {forged.key.public.key_id}).is_listed


def second_key(chain: Chain, role: str = "controller") -> SigningKey:
    """Another key, from now on trusted for that role."""
    other = Chain().key
    public = other.public.model_copy(update={"role": role})
    chain.add(KeyAdded(**BY, key=public))
    return SigningKey(private=other.private, public=public)


def test_a_key_that_receives_wishes_does_not_vouch(chain: Chain, files: Files) -> None:
    key = second_key(chain, "admission")
    # It may sign an approval, and nothing before that is its business.
    chain.key = key
    approval = Approved(
        **BY,
        account="mlflow:olga",
        model=MODEL,
        version="1",
        package_sha256=package("1"),
    )
    chain.add(approval)
    export = files.write(chain.entries).folder / LEDGER
    trusted = {"staging": Source(ledger_key=key.public.key_id)}
    with pytest.raises(TransferRefused, match="does not sign for its controller"):
        read_origin(export, trusted)


@pytest.mark.parametrize("is_compromised", [False, True])
def test_a_rotation_is_followed_and_a_theft_is_not(
    chain: Chain, files: Files, *, is_compromised: bool
) -> None:
    trusted = listed(chain)
    former = chain.key.public.key_id
    chain.key = second_key(chain)
    chain.add(revoked_key(former, is_compromised=is_compromised))
    export = files.write(chain.entries).folder / LEDGER
    if not is_compromised:
        assert read_origin(export, trusted).name == "staging"
        return
    with pytest.raises(TransferRefused, match=r"as compromised \(entry 5\)"):
        read_origin(export, trusted)


def test_an_edited_ledger_is_broken(chain: Chain, files: Files) -> None:
    export = files.write(chain.entries).folder / LEDGER
    text = export.read_text()
    export.write_text(text.replace('"lena"', '"rita"'))
    with pytest.raises(BrokenLedger, match="Entry 2 is broken"):
        read_origin(export, listed(chain))


# Whether it follows what was read before.


def test_the_same_ledger_and_a_longer_one_follow(chain: Chain) -> None:
    here = Chain()
    here.add(seen(chain))
    check_follows(origin_of(chain), here.ledger_state)
    chain.add(verdict(2))
    check_follows(origin_of(chain), here.ledger_state)


def seen(chain: Chain, *revoked: str) -> OriginSeen:
    return OriginSeen(origin=origin_of(chain).head, revoked_adapters=revoked)


def test_an_older_copy_does_not_follow(chain: Chain) -> None:
    here = Chain()
    earlier = origin_of(chain)
    chain.add(verdict(2))
    here.add(seen(chain))
    with pytest.raises(TransferRefused, match="it is an older copy"):
        check_follows(earlier, here.ledger_state)


def test_a_longer_ledger_with_another_past_does_not_follow(chain: Chain) -> None:
    here = Chain()
    fork = Chain()
    fork.key, fork.entries = chain.key, list(chain.entries)
    fork.ledger_state = chain.ledger_state
    chain.add(verdict(2))
    here.add(seen(chain))
    # The key's owner writes another entry in the place of the one that was read.
    fork.add(Revoked(**BY, model=MODEL, version="9"), verdict(2))
    assert fork.last > chain.last
    with pytest.raises(TransferRefused, match="its ledger was rewritten"):
        check_follows(origin_of(fork), here.ledger_state)


# What the ledger says of the version.


def fit(chain: Chain, version: str = "1") -> Any:
    return find_fit(chain.ledger_state, tuple(chain.entries), MODEL, version)


def test_what_passed_there_may_go(chain: Chain) -> None:
    assert fit(chain).generation == 2


def test_what_served_there_may_go_too(chain: Chain) -> None:
    chain.add(begun(3))
    assert fit(chain).made.version == "1"


@pytest.mark.parametrize(
    ("version", "why"), [("2", "is not in the ledger that it comes from")]
)
def test_what_the_ledger_does_not_hold_stays(
    chain: Chain, version: str, why: str
) -> None:
    with pytest.raises(TransferRefused, match=why):
        fit(chain, version)


def test_what_somebody_adopted_stays() -> None:
    chain = Chain()
    chain.add(adopted(), verdict(2))
    with pytest.raises(TransferRefused, match="a person answers for it there"):
        fit(chain)


def test_what_was_not_judged_or_did_not_pass_last_stays(chain: Chain) -> None:
    fresh = Chain()
    fresh.add(registered())
    with pytest.raises(TransferRefused, match="`judge` did not pass it there"):
        fit(fresh)
    for outcome in ("rejected", "undecided"):
        chain.add(verdict(2, outcome))
        with pytest.raises(TransferRefused, match="`judge` did not pass it there"):
            fit(chain)
    # What passes again may go.
    chain.add(verdict(2))
    assert fit(chain).generation == 2


def test_a_verdict_on_other_bytes_of_that_number_does_not_count() -> None:
    chain = Chain()
    other = made().model_copy(update={"package_sha256": package("8")})
    chain.add(registered(), verdict(2))
    # MLflow was lost, and the number was given again.
    again = registered().model_copy(update=other.model_dump())
    chain.add(again)
    with pytest.raises(TransferRefused, match="`judge` did not pass it there"):
        fit(chain)


@pytest.mark.parametrize("version", ["1", "7"])
def test_what_is_revoked_by_number_or_by_bytes_stays(
    chain: Chain, version: str
) -> None:
    revocation = Revoked(
        **BY,
        model=MODEL,
        version=version,
        adapter_sha256=adapter("1"),
    )
    chain.add(revocation)
    with pytest.raises(TransferRefused, match="it is revoked there"):
        fit(chain)


def test_what_a_stolen_key_registered_or_judged_stays(chain: Chain) -> None:
    former = chain.key.public.key_id
    chain.key = second_key(chain)
    chain.add(revoked_key(former, is_compromised=True))
    with pytest.raises(TransferRefused, match="entry 2 is signed by key"):
        fit(chain)
    # A new verdict does not mend who registered it.
    chain.add(verdict(2))
    with pytest.raises(TransferRefused, match="entry 2 is signed by key"):
        fit(chain)


def test_what_a_stolen_key_judged_stays_whoever_registered_it() -> None:
    chain = Chain()
    chain.add(registered())
    own, stolen = chain.key, second_key(chain)
    chain.key = stolen
    chain.add(verdict(2))
    chain.key = own
    chain.add(revoked_key(stolen.public.key_id, is_compromised=True))
    with pytest.raises(TransferRefused, match="entry 4 is signed by key"):
        fit(chain)


# The version as its origin vouches for it.


def vouched(chain: Chain, files: Files) -> Vouched:
    return vouch(files.write(chain.entries).folder, origin_of(chain))


def test_other_bytes_than_the_ledger_holds_are_refused(
    chain: Chain, files: Files
) -> None:
    files.write(chain.entries, package_sha256="d" * 64)
    with pytest.raises(TransferRefused, match="sent is dddddddddddd"):
        vouch(files.folder, origin_of(chain))


def test_a_record_of_another_ledger_is_refused(chain: Chain, files: Files) -> None:
    files.write(chain.entries, ledger_sha256="d" * 64)
    with pytest.raises(TransferRefused, match="is not the ledger that"):
        read_record(files.folder)


def test_the_entry_says_what_the_origin_knows(chain: Chain, files: Files) -> None:
    approvals = [
        Approved(
            **BY,
            account=account,
            model=MODEL,
            version=version,
            package_sha256=package(version),
        )
        for account, version in (("mlflow:olga", "1"), ("mlflow:omar", "2"))
    ]
    # One of them is of another version.
    chain.add(registered("2"), *approvals)
    entry = entry_of(vouched(chain, files), "5", None)
    assert (entry.version, entry.version_there, entry.entered_there) == ("5", "1", 2)
    assert (entry.by, entry.account) == ("lena", "5 (lena)")
    assert [approval.account for approval in entry.approvals] == ["mlflow:olga"]
    assert entry.made_at == chain.entries[1].at
    assert (entry.released_by, entry.signer) == (None, None)
    assert entry.transfer_sha256 == sha256_of(files.folder / RECORD)


def test_the_block_that_confirmed_it_there_comes_along(
    chain: Chain, files: Files
) -> None:
    assert entry_of(vouched(chain, files), "5", None).confirmation is None
    other = block_opened(1, adapter_sha256=adapter("other"))
    chain.add(other, block_opened(2, adapter_sha256=adapter("1")))
    # What was opened and never closed confirmed nothing; the first is another adapter's.
    assert entry_of(vouched(chain, files), "5", None).confirmation is None
    at = chain.last
    chain.add(block_closed(at - 1, is_confirmed=True))
    assert entry_of(vouched(chain, files), "5", None).confirmation is None
    chain.add(block_closed(at, is_confirmed=True))
    confirmation = entry_of(vouched(chain, files), "5", None).confirmation
    assert confirmation is not None
    assert (confirmation.generation, confirmation.opened.number) == (at, 2)
    assert confirmation.closed.is_confirmed


def test_who_released_it_there_is_named(chain: Chain, files: Files) -> None:
    chain.add(begun(3))
    at = chain.last
    chain.add(ReleaseSwitched(begun=at), ReleaseCompleted(begun=at))
    assert entry_of(vouched(chain, files), "5", None).released_by == "rita"


def test_what_was_said_and_done_of_other_bytes_of_that_number_stays_behind(
    files: Files,
) -> None:
    chain = Chain()
    bytes_before = {"package_sha256": package("8")}
    chain.add(registered().model_copy(update=bytes_before))
    chain.add(verdict(2).model_copy(update=bytes_before))
    approval = Approved(
        **BY, account="mlflow:olga", model=MODEL, version="1", **bytes_before
    )
    beginning = begun(3)
    release = beginning.release.model_copy(update=bytes_before)
    chain.add(approval, beginning.model_copy(update={"release": release}))
    at = chain.last
    chain.add(ReleaseSwitched(begun=at), ReleaseCompleted(begun=at))
    # MLflow was lost, and the number was given again.
    chain.add(registered(), verdict(chain.last + 1))
    entry = entry_of(vouched(chain, files), "5", None)
    assert (entry.approvals, entry.released_by) == ((), None)


def test_an_entry_holds_no_endless_list_of_approvals(
    chain: Chain, files: Files
) -> None:
    for number in range(60):
        approval = Approved(
            by=f"p{number}",
            account=f"mlflow:p{number}",
            reason_sha256=WHY,
            model=MODEL,
            version="1",
            package_sha256=package("1"),
        )
        chain.add(approval)
    assert len(entry_of(vouched(chain, files), "5", None).approvals) == 50


def received(chain: Chain) -> Received:
    """Version 1 of that installation, made three days before."""
    return Received(
        **made().model_dump(),
        by="lena",
        account="5 (lena)",
        origin=origin_of(chain, "dev").head,
        version_there="1",
        entered_there=2,
        made_at=START - timedelta(days=3),
        transfer_sha256=WHY,
    )


def test_what_was_received_goes_on_with_its_age_unless_its_origin_revoked_it(
    chain: Chain, files: Files
) -> None:
    middle = Chain("6" * 32)
    middle.add(received(chain), verdict(2))
    entry = entry_of(vouched(middle, files), "1", None)
    assert entry.made_at == START - timedelta(days=3)
    chain.add(Revoked(**BY, model=MODEL, version="1"))
    news = OriginSeen(
        origin=origin_of(chain, "dev").head, revoked_adapters=(adapter("1"),)
    )
    middle.add(news)
    with pytest.raises(TransferRefused, match="it is revoked where it was made"):
        fit(middle)


def test_what_is_revoked_there_is_found_among_what_came_from_there(
    chain: Chain,
) -> None:
    here = Chain()
    here.add(received(chain), registered("2"))
    origin = origin_of(chain, "dev")
    assert find_revoked(origin, here.ledger_state) == ()
    for version in ("1", "2"):
        chain.add(
            Revoked(**BY, model=MODEL, version=version, adapter_sha256=adapter(version))
        )
    # Version 2 was made here: what another installation says of it is its own affair.
    newer = origin_of(chain, "dev")
    assert find_revoked(newer, here.ledger_state) == (adapter("1"),)
    assert find_revoked(origin_of(chain, "other"), here.ledger_state) == ()


# Who signed the package.


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, PublicKey]:
    folder = tmp_path / "package"
    folder.mkdir()
    write_text(folder / "verdict.json", "{}")
    key = create_packaging_key(tmp_path / "keys" / "packaging.pem")
    sign_package(folder, key)
    return folder, key.public


def with_signature(signed: tuple[Path, PublicKey], files: Files) -> Vouched:
    folder, key = signed
    chain = Chain()
    contents = made().model_copy(update={"package_sha256": digest_of_package(folder)})
    entry = registered().model_copy(update=contents.model_dump())
    chain.add(KeyAdded(**BY, key=key), entry)
    outcome = verdict(3).model_copy(update={"package_sha256": contents.package_sha256})
    chain.add(outcome)
    files.write(chain.entries, package_sha256=contents.package_sha256)
    return vouch(files.folder, origin_of(chain))


def test_the_signer_is_a_key_that_the_origin_trusts_for_it(
    signed: tuple[Path, PublicKey], files: Files
) -> None:
    assert find_signer(signed[0], with_signature(signed, files)) == signed[1]


def test_a_package_without_a_signature_has_no_signer(
    signed: tuple[Path, PublicKey], files: Files
) -> None:
    found = with_signature(signed, files)
    (signed[0] / "signature.json").unlink()
    # Whether that is enough, the policy of the receiver says.
    assert find_signer(signed[0], found) is None


def test_a_signature_that_does_not_count_there_is_refused(
    signed: tuple[Path, PublicKey], files: Files, chain: Chain
) -> None:
    with pytest.raises(TransferRefused, match="is not signed as staging signs"):
        find_signer(signed[0], vouched(chain, files))
