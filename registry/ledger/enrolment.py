"""Keys of other roles than the controller's: made where missing, and added to the ledger."""

from core.account import operating_system_account
from core.errors import IllegalEntry, LedgerError, StaleGeneration
from registry.ledger.entries import KeyAdded, PublicKey, Role
from registry.ledger.keys import SigningKey, create_key, key_file
from registry.ledger.ledger import Ledger
from registry.ledger.packaging_key import PackagingKey, create_packaging_key

_ATTEMPTS = 20
"""How often another writer may come first."""


def enrol(ledger: Ledger, role: Role, by: str) -> SigningKey:
    """This machine's key of that role, which the ledger trusts from now on.

    `ledger` signs as the controller. `LedgerError` where the key can neither be written nor read,
    or was revoked, or the ledger not be written; `StaleGeneration` where others came first each
    time.
    """
    key = create_key(ledger.home, role)
    _enrol_public(ledger, key.public, by)
    return key


def enrol_packaging(ledger: Ledger, by: str) -> PackagingKey:
    """This machine's key that signs packages, as `enrol` gives the others."""
    key = create_packaging_key(key_file(ledger.home, "packaging"))
    _enrol_public(ledger, key.public, by)
    return key


def _enrol_public(ledger: Ledger, public: PublicKey, by: str) -> None:
    for _ in range(_ATTEMPTS):
        ledger_state = ledger.state()
        if ledger_state.key(public.key_id) == public:
            return
        revoked = ledger_state.revoked_keys.get(public.key_id)
        if revoked is not None:
            raise LedgerError(
                f"The key {key_file(ledger.home, public.role)} was revoked"
                f" (entry {revoked.generation}). Make another one:"
                f" `assay audit rotate-key --role {public.role} --reason …`."
            )
        added = KeyAdded(
            by=by,
            account=operating_system_account(),
            reason_sha256=ledger.remember(
                f"A key of its own for the role {public.role}."
            ),
            key=public,
        )
        try:
            ledger.append(added, ledger_state)
        except (StaleGeneration, IllegalEntry):
            # Somebody wrote first, perhaps this very key.
            continue
    raise StaleGeneration(
        f"Others wrote to the ledger first, {_ATTEMPTS} times in a row. Start again."
    )
