"""The chain of entries: what an entry hashes to, who signed it, and whether each one follows from the one before."""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from core.errors import BrokenLedger
from registry.ledger.canonical import accepted_forms, canonical_json
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
from registry.ledger.rules import after, first
from registry.ledger.state import LedgerState

GENESIS = "0" * 64
"""What the first entry gives as the hash before it."""


def entry_hash(entry: Entry) -> str:
    """SHA-256 of everything in the entry but hash and signature, in canonical JSON.

    `LedgerError` where the entry holds a number that canonical JSON has no form for.
    """
    return _sha256(canonical_json(_hashed_part(entry)))


def is_hashed(entry: Entry) -> bool:
    """Whether the entry's hash is that of its contents, in canonical JSON or in the earlier form.

    Both forms read back as the same contents, so that no hash is that of two different entries.
    """
    forms = accepted_forms(_hashed_part(entry))
    return any(_sha256(form) == entry.hash for form in forms)


def body_text(entry: Entry) -> str:
    """The body as a row keeps it: in the form that the entry was hashed in."""
    canonical, *earlier = accepted_forms(body_document(entry.body))
    if not earlier or canonical == earlier[0]:
        return canonical
    # The two differ in how a number is written: the hash says which of them was meant.
    is_canonical = entry_hash(entry) == entry.hash
    return canonical if is_canonical or not is_hashed(entry) else earlier[0]


def _hashed_part(entry: Entry) -> dict[str, Any]:
    return {
        "generation": entry.generation,
        "at": canonical_time(entry.at),
        "body": body_document(entry.body),
        "previous": entry.previous,
        "key_id": entry.key_id,
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def signed_entry(
    body: Body, at: datetime, last: LedgerState | None, key: SigningKey
) -> Entry:
    """The entry that comes after `last`, hashed and signed."""
    entry = Entry(
        generation=1 if last is None else last.head.generation + 1,
        at=at,
        body=body,
        previous=GENESIS if last is None else last.head.hash,
        key_id=key.public.key_id,
        hash=GENESIS,
        signature="0" * 128,
    )
    digest = entry_hash(entry)
    return entry.model_copy(update={"hash": digest, "signature": key.sign(digest)})


def follow(ledger_state: LedgerState | None, entries: Iterable[Entry]) -> LedgerState:
    """How things stand after those entries, each checked: place, hash, time, signature, and that it may follow.

    `BrokenLedger` or `IllegalEntry` names the first that does not.
    """
    for entry in entries:
        ledger_state = _next(ledger_state, entry)
    if ledger_state is None:
        raise BrokenLedger(
            "The ledger has no entry: its beginning is cut off. Restore it from a backup or an export."
        )
    return ledger_state


def check_remembered(head: Head, found: Entry | None) -> None:
    """`BrokenLedger` where the entry at a remembered head is not the one that is remembered. None: the ledger ends before it."""
    if found is None or found.generation != head.generation:
        raise BrokenLedger(
            f"Entry {head.generation} is gone, though it was there before: the ledger's tail was cut off or an old copy was put back."
            " Restore it from a backup or an export."
        )
    if found.hash != head.hash:
        raise broken(
            head.generation,
            "another one stood there before, so this is another ledger, or one that was written anew",
        )
    if not is_hashed(found):
        raise broken(
            head.generation, "its contents are not what was hashed, so it was edited"
        )


def _next(ledger_state: LedgerState | None, entry: Entry) -> LedgerState:
    _check_place(ledger_state, entry)
    if not is_hashed(entry):
        raise broken(
            entry.generation, "its contents are not what was hashed, so it was edited"
        )
    key = _signer(ledger_state, entry)
    if key is None:
        raise broken(
            entry.generation,
            f"key {entry.key_id[:12]} that signs it is none that the ledger trusts at that point",
        )
    if not is_signed(entry, key):
        raise broken(
            entry.generation, f"its signature is not of key {entry.key_id[:12]}"
        )
    return first(entry) if ledger_state is None else after(ledger_state, entry)


def _check_place(ledger_state: LedgerState | None, entry: Entry) -> None:
    expected = 1 if ledger_state is None else ledger_state.head.generation + 1
    if entry.generation != expected:
        raise broken(
            expected, f"it is missing, and entry {entry.generation} stands in its place"
        )
    if entry.previous != (GENESIS if ledger_state is None else ledger_state.head.hash):
        raise broken(
            entry.generation,
            "it does not follow the entry before it, so one of the two was exchanged",
        )
    if ledger_state is not None and entry.at < ledger_state.at:
        raise broken(entry.generation, "it is older than the entry before it")


def _signer(ledger_state: LedgerState | None, entry: Entry) -> PublicKey | None:
    """The controller's key of that id that may sign at this point; the opening entry brings its own."""
    if ledger_state is not None:
        key = ledger_state.key(entry.key_id)
    elif isinstance(entry.body, Opened) and entry.body.key.key_id == entry.key_id:
        key = entry.body.key
    else:
        key = None
    return key if key is not None and key.role == "controller" else None


def broken(generation: int, fact: str) -> BrokenLedger:
    """The error that names an entry and what is wrong with it."""
    return BrokenLedger(
        f"Entry {generation} is broken: {fact}. Trust nothing after it: restore the ledger from a backup or an export."
    )
