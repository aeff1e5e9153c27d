"""Replacing the key that signs the ledger."""

from pathlib import Path

from filelock import FileLock

from registry.ledger.entries import KeyAdded, KeyRevoked, PublicKey
from registry.ledger.keys import SigningKey, create_key_at, key_file, load_key, sync_folder
from registry.ledger.ledger import Ledger
from registry.ledger.state import Standing


def rotate(ledger: Ledger, home: Path, by: str, reason: str, account: str | None = None) -> Standing:
    """Replace the key: the new one enters the ledger, then takes the file's place, then the old one is revoked.

    A rotation that was cut short is brought to its end by the next call, which begins no second one.
    """
    following = home / "keys" / "next.pem"
    load_key(home)
    digest = ledger.remember(reason)
    with FileLock(home / "keys" / "rotation.lock"):
        standing = ledger.standing()
        if following.exists() or not _superseded(standing, load_key(home)):
            new = create_key_at(following)
            if standing.key(new.public.key_id) is None:
                standing = ledger.append(KeyAdded(by=by, account=account, reason_sha256=digest, key=new.public), standing)
            # Only now: until the ledger holds the new key, the old one is the only one that can write.
            following.replace(key_file(home))
            sync_folder(key_file(home).parent)
        for old in _superseded(standing, load_key(home)):
            standing = ledger.append(KeyRevoked(by=by, account=account, reason_sha256=digest, key_id=old.key_id), standing)
    return standing


def _superseded(standing: Standing, key: SigningKey) -> tuple[PublicKey, ...]:
    return tuple(each for each in standing.keys if each.role == "controller" and each.key_id != key.public.key_id)
