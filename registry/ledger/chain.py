"""The chain of entries: what one hashes to, who signed it, and whether it follows the last one."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from core.errors import BrokenLedger
from registry.ledger.canonical import accepted_forms, canonical_json, earlier_json
from registry.ledger.entries import (
    Body,
    Entry,
    Head,
    Opened,
    PublicKey,
    body_document,
    canonical_time,
)
from registry.ledger.keys import SigningKey, is_signed
from registry.ledger.people import signers_of
from registry.ledger.rules import apply_entry, start_state
from registry.ledger.state import LedgerState

GENESIS = "0" * 64
"""What the first entry gives as the hash before it."""
_UNSIGNED = "0" * 128
"""Holds the place of a signature until the hash that it signs is known."""


def entry_hash(entry: Entry) -> str:
    """SHA-256 of everything in the entry but hash and signature, in canonical JSON.

    `LedgerError` where the entry holds a number that canonical JSON has no form for.
    """
    document = _hashed_part(entry)
    canonical = canonical_json(document)
    return _sha256(canonical)


def is_hashed(entry: Entry) -> bool:
    """Whether the entry's hash is that of its contents, in canonical JSON or in the earlier form.

    Both forms read back as the same contents, so that no hash is that of two different entries.
    """
    # Not entry_hash: of an edited entry it may have no form, and that is an answer here.
    document = _hashed_part(entry)
    digests = {_sha256(form) for form in accepted_forms(document)}
    return entry.hash in digests


def body_text(entry: Entry) -> str:
    """The body as a row keeps it: in the form that the entry was hashed in."""
    document = body_document(entry.body)
    canonical, *others = accepted_forms(document)
    if not others or others == [canonical]:
        return canonical
    # The two differ in how a number is written: the hash says which of them was meant.
    hashed = _hashed_part(entry)
    earlier = earlier_json(hashed)
    earlier_hash = _sha256(earlier)
    if earlier_hash == entry.hash:
        return others[0]
    return canonical


def signed_entry(
    body: Body, at: datetime, ledger_state: LedgerState | None, key: SigningKey
) -> Entry:
    """The entry that comes after that state, hashed and signed; None: the opening entry.

    `LedgerError` where the body has no canonical JSON.
    """
    # Hash and signature cover the other fields, so they are filled in afterwards.
    entry = Entry(
        generation=_next_generation(ledger_state),
        at=at,
        body=body,
        previous=_last_hash(ledger_state),
        key_id=key.public.key_id,
        hash=GENESIS,
        signature=_UNSIGNED,
    )
    digest = entry_hash(entry)
    signature = key.sign(digest)
    return entry.model_copy(update={"hash": digest, "signature": signature})


def follow(ledger_state: LedgerState | None, entries: Iterable[Entry]) -> LedgerState:
    """Verify entries on top of a state, and give the state after them.

    Of each entry place, hash, time and signature are checked, and that it may follow.
    `BrokenLedger` or `IllegalEntry` names the first one that does not.
    """
    for entry in entries:
        ledger_state = _follow_one(ledger_state, entry)
    # Without any entry nothing was verified, and an emptied ledger must not pass.
    if ledger_state is None:
        raise BrokenLedger(
            "The ledger has no entry: its beginning is cut off."
            " Restore it from a backup or an export."
        )
    return ledger_state


def check_remembered(head: Head, entry: Entry | None) -> None:
    """Compare the entry at a remembered head with what is remembered.

    `BrokenLedger` where it is another one, or None: the ledger ends before it.
    """
    if entry is None or entry.generation != head.generation:
        raise BrokenLedger(
            f"Entry {head.generation} is missing, though it was there before: the ledger's tail"
            " was cut off or an old copy was put back. Restore it from a backup or an export."
        )
    # The generation alone proves nothing: a forked ledger has one, too.
    if entry.hash != head.hash:
        raise broken_entry(
            head.generation,
            "another one was in its place before, so this is another ledger,"
            " or one that was rewritten",
        )
    if not is_hashed(entry):
        raise _edited(head.generation)


def broken_entry(generation: int, fact: str) -> BrokenLedger:
    """The error that names an entry and what is wrong with it."""
    return BrokenLedger(
        f"Entry {generation} is broken: {fact}."
        " Trust nothing after it: restore the ledger from a backup or an export."
    )


def _hashed_part(entry: Entry) -> dict[str, Any]:
    return {
        "generation": entry.generation,
        "at": canonical_time(entry.at),
        "body": body_document(entry.body),
        "previous": entry.previous,
        "key_id": entry.key_id,
    }


def _sha256(text: str) -> str:
    raw = text.encode()
    return hashlib.sha256(raw).hexdigest()


def _next_generation(ledger_state: LedgerState | None) -> int:
    if ledger_state is None:
        return 1
    return ledger_state.head.generation + 1


def _last_hash(ledger_state: LedgerState | None) -> str:
    if ledger_state is None:
        return GENESIS
    return ledger_state.head.hash


def _follow_one(ledger_state: LedgerState | None, entry: Entry) -> LedgerState:
    # The place before the signature, so that a dropped entry is reported as missing.
    _check_place(ledger_state, entry)
    if not is_hashed(entry):
        raise _edited(entry.generation)
    key = _find_signer(ledger_state, entry)
    name = entry.key_id[:12]
    if key is None:
        raise broken_entry(
            entry.generation,
            f"key {name} that signs it is none that the ledger trusts at that point",
        )
    if not is_signed(entry, key):
        raise broken_entry(entry.generation, f"its signature is not of key {name}")
    if ledger_state is None:
        return start_state(entry)
    return apply_entry(ledger_state, entry)


def _check_place(ledger_state: LedgerState | None, entry: Entry) -> None:
    generation = _next_generation(ledger_state)
    if entry.generation != generation:
        raise broken_entry(
            generation,
            f"it is missing, and entry {entry.generation} is in its place",
        )
    # The chain: without it whole entries could be moved, each with a valid signature.
    if entry.previous != _last_hash(ledger_state):
        raise broken_entry(
            generation,
            "it does not follow the entry before it, so one of the two was exchanged",
        )
    # Waivers and waiting times are compared with these times.
    if ledger_state is not None and entry.at < ledger_state.at:
        raise broken_entry(generation, "it is older than the entry before it")


def _find_signer(ledger_state: LedgerState | None, entry: Entry) -> PublicKey | None:
    """The key of that id, if it may sign an entry of this kind at this point."""
    if ledger_state is None:
        return _own_key(entry)
    key = ledger_state.key(entry.key_id)
    # A key that receives wishes signs nothing that puts a version in front of users.
    if key is None or key.role not in signers_of(entry.body.kind):
        return None
    return key


def _own_key(entry: Entry) -> PublicKey | None:
    """The key that an opening entry brings, if it is the one that signs it."""
    # Nobody can vouch for the first key: who remembers a head of the ledger vouches for it later.
    if not isinstance(entry.body, Opened):
        return None
    key = entry.body.key
    is_signer = key.key_id == entry.key_id and key.role == "controller"
    return key if is_signer else None


def _edited(generation: int) -> BrokenLedger:
    return broken_entry(
        generation, "its contents are not what was hashed, so it was edited"
    )
