"""Replacing the key that signs the ledger."""

from pathlib import Path

from core.locks import exclusive, rotation_lock
from registry.ledger.entries import KeyAdded, KeyRevoked, PublicKey
from registry.ledger.keys import (
    SigningKey,
    create_key_at,
    key_file,
    load_key,
    sync_folder,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState


def rotate(
    ledger: Ledger, home: Path, by: str, reason: str, account: str | None = None
) -> LedgerState:
    """Replace the key: the new one enters the ledger, then takes the file's place, then the old one is revoked.

    A rotation that was cut short is brought to its end by the next call, which begins no second one.
    """
    following = home / "keys" / "next.pem"
    load_key(home)
    digest = ledger.remember(reason)
    with exclusive(rotation_lock(home)):
        ledger_state = ledger.state()
        if following.exists() or not _superseded(ledger_state, load_key(home)):
            new = create_key_at(following)
            if ledger_state.key(new.public.key_id) is None:
                ledger_state = ledger.append(
                    KeyAdded(
                        by=by, account=account, reason_sha256=digest, key=new.public
                    ),
                    ledger_state,
                )
            # Only now: until the ledger holds the new key, the old one is the only one that can write.
            following.replace(key_file(home))
            sync_folder(key_file(home).parent)
        for old in _superseded(ledger_state, load_key(home)):
            ledger_state = ledger.append(
                KeyRevoked(
                    by=by, account=account, reason_sha256=digest, key_id=old.key_id
                ),
                ledger_state,
            )
    return ledger_state


def _superseded(ledger_state: LedgerState, key: SigningKey) -> tuple[PublicKey, ...]:
    return tuple(
        each
        for each in ledger_state.keys
        if each.role == "controller" and each.key_id != key.public.key_id
    )
