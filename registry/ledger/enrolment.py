"""Keys of other roles than the controller's: made where missing, and added to the ledger."""

from core.account import operating_system_account
from core.errors import IllegalEntry, StaleGeneration
from registry.ledger.entries import KeyAdded, Role
from registry.ledger.keys import SigningKey, create_key
from registry.ledger.ledger import Ledger

_ATTEMPTS = 20
"""How often another writer may come first."""


def enrol(ledger: Ledger, role: Role, by: str) -> SigningKey:
    """This machine's key of that role, which the ledger trusts from now on.

    `ledger` signs as the controller. `LedgerError` where the key can neither be written nor read,
    or the ledger not be written; `StaleGeneration` where others came first each time.
    """
    key = create_key(ledger.home, role)
    reason_sha256 = ledger.remember(f"A key of its own for the role {role}.")
    added = KeyAdded(
        by=by,
        account=operating_system_account(),
        reason_sha256=reason_sha256,
        key=key.public,
    )
    key_id = key.public.key_id
    for _ in range(_ATTEMPTS):
        ledger_state = ledger.state()
        known = ledger_state.key(key_id)
        if known == key.public:
            return key
        try:
            ledger.append(added, ledger_state)
        except (StaleGeneration, IllegalEntry):
            # Somebody wrote first, perhaps this very key.
            continue
    raise StaleGeneration(
        f"Others wrote to the ledger first, {_ATTEMPTS} times in a row. Start again."
    )
