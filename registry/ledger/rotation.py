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
    """Replace the key: the new one is added to the ledger and takes the file's place.

    Then the old one is revoked. An interrupted rotation is completed by the next call, which begins
    no second one. `LedgerError` where this machine's key cannot be read or the ledger not written.
    """
    new_file = home / "keys" / "next.pem"
    # Fail before anything is written, if this machine has no key to sign with.
    load_key(home)
    reason_sha256 = ledger.remember(reason)
    # Two rotations at once would each revoke the key of the other.
    with exclusive(rotation_lock(home)):
        ledger_state = ledger.state()
        # Without the file, a second trusted key means that only the revocation is missing.
        if new_file.exists() or not _superseded_keys(ledger_state, load_key(home)):
            new = create_key_at(new_file)
            # An interrupted rotation may have added it already.
            if ledger_state.key(new.public.key_id) is None:
                added = KeyAdded(
                    by=by,
                    account=account,
                    reason_sha256=reason_sha256,
                    key=new.public,
                )
                ledger_state = ledger.append(added, ledger_state)
            # Only now: until the ledger holds the new key, only the old one can write.
            new_file.replace(key_file(home))
            sync_folder(key_file(home).parent)
        for old in _superseded_keys(ledger_state, load_key(home)):
            revoked = KeyRevoked(
                by=by,
                account=account,
                reason_sha256=reason_sha256,
                key_id=old.key_id,
            )
            ledger_state = ledger.append(revoked, ledger_state)
    return ledger_state


def _superseded_keys(
    ledger_state: LedgerState, key: SigningKey
) -> tuple[PublicKey, ...]:
    """The controller's keys that the ledger trusts beside this machine's own."""
    own = key.public.key_id
    return tuple(other for other in ledger_state.controller_keys if other.key_id != own)
