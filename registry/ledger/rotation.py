"""Replacing and revoking keys: the controller's, which signs the ledger, and those of the roles."""

from dataclasses import dataclass
from pathlib import Path

from core.errors import LedgerError
from core.locks import exclusive, rotation_lock
from registry.ledger.entries import KeyAdded, KeyRevoked, PublicKey, Role
from registry.ledger.keys import (
    SigningKey,
    create_key_at,
    key_file,
    load_key,
    sync_folder,
)
from registry.ledger.ledger import Ledger
from registry.ledger.packaging_key import create_packaging_key
from registry.ledger.state import LedgerState

# Letters: fewer could name several keys by accident.
_SHORTEST_NAME = 8


@dataclass(frozen=True)
class KeyOrder:
    """Who replaces or revokes a key, and why."""

    by: str
    reason: str
    account: str | None = None


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


def rotate_role(ledger: Ledger, role: Role, order: KeyOrder) -> PublicKey:
    """Replace this machine's key of the role `admission` or `packaging`, and give the new one.

    Another machine's key of that role stays. An interrupted rotation is completed by the next
    call. `LedgerError` where a key cannot be read or the ledger not be written.
    """
    path = key_file(ledger.home, role)
    new_file = path.with_name(f"next-{role}.pem")
    reason_sha256 = ledger.remember(order.reason)
    with exclusive(rotation_lock(ledger.home)):
        old = _public_of(path, role) if path.exists() else None
        new = _public_of(new_file, role)
        ledger_state = ledger.state()
        if ledger_state.key(new.key_id) is None:
            added = KeyAdded(
                by=order.by,
                account=order.account,
                reason_sha256=reason_sha256,
                key=new,
            )
            ledger_state = ledger.append(added, ledger_state)
        # Before the file is replaced: the controller's key signs this, and afterwards nobody
        # would know which key was the old one.
        if old is not None and ledger_state.key(old.key_id) is not None:
            revoked = KeyRevoked(
                by=order.by,
                account=order.account,
                reason_sha256=reason_sha256,
                key_id=old.key_id,
            )
            ledger.append(revoked, ledger_state)
        new_file.replace(path)
        sync_folder(path.parent)
    return new


def _public_of(path: Path, role: Role) -> PublicKey:
    """The public half of the key at `path`, which is made where it is missing."""
    if role == "packaging":
        return create_packaging_key(path).public
    return create_key_at(path, role).public


def revoke_key(
    ledger: Ledger, name: str, order: KeyOrder, *, is_compromised: bool
) -> PublicKey:
    """Revoke a key by its id or the first letters of that, and give it.

    With `is_compromised` also one that was revoked already. `LedgerError` where no key or several
    have that name; `IllegalEntry` where the key may not be revoked.
    """
    ledger_state = ledger.state()
    key = _find_key(ledger_state, name)
    revoked = KeyRevoked(
        by=order.by,
        account=order.account,
        reason_sha256=ledger.remember(order.reason),
        key_id=key.key_id,
        is_compromised=is_compromised,
    )
    ledger.append(revoked, ledger_state)
    return key


def _find_key(ledger_state: LedgerState, name: str) -> PublicKey:
    revoked = (each.key for each in ledger_state.revoked_keys.values())
    found = [
        key for key in (*ledger_state.keys, *revoked) if key.key_id.startswith(name)
    ]
    # An empty name would be every key's.
    if len(name) < _SHORTEST_NAME or len(found) != 1:
        raise LedgerError(
            f"{len(found)} keys of the ledger begin with {name!r}, and a name has at least"
            f" {_SHORTEST_NAME} letters. `assay audit keys` lists them."
        )
    return found[0]
