"""Whose signature a package bears, and whether that key counts for the version."""

from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFile, UntrustedSignature
from registry.ledger.entries import PublicKey
from registry.ledger.key_steps import find_distrust
from registry.ledger.state import LedgerState
from registry.release.judging.circumstances import Signature
from registry.release.package_signature import (
    SIGNATURE,
    check_signature,
    digest_of_package,
)


@dataclass(frozen=True)
class FoundSignature:
    """A signature that counts, or why the one that is there does not; neither where none is."""

    signature: Signature | None = None
    fault: str = ""


def find_signature(
    package: Path, ledger_state: LedgerState, registered: int
) -> FoundSignature:
    """Verify the signature of a package, for a version that was entered at `registered`."""
    path = package / SIGNATURE
    # Also a link that leads nowhere is something that somebody put there.
    if not path.exists() and not path.is_symlink():
        return FoundSignature()
    try:
        key = check_signature(package, every_packaging_key(ledger_state))
        digest = digest_of_package(package)
    except (DamagedFile, UntrustedSignature) as error:
        return FoundSignature(fault=str(error).rstrip("."))
    distrust = find_distrust(ledger_state, key.key_id, registered)
    if distrust:
        return FoundSignature(fault=f"The package is signed, and {distrust}")
    signature = Signature(key_id=key.key_id, package_sha256=digest)
    return FoundSignature(signature=signature)


def every_packaging_key(ledger_state: LedgerState) -> tuple[PublicKey, ...]:
    """The packaging keys that the ledger ever trusted: revoked ones, and other installations', too.

    Which of them counts for a version, `find_distrust` says.
    """
    revoked = [each.key for each in ledger_state.revoked_keys.values()]
    received = ledger_state.received_keys.values()
    keys = (*ledger_state.keys, *revoked, *received)
    return tuple(key for key in keys if key.role == "packaging")
