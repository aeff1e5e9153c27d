"""Which keys there are: added, revoked, and whose signatures on packages count.

Steps of `registry.ledger.rules`. Which key may sign which entry is in `registry.ledger.people`.
"""

from registry.ledger.entries import Entry, Judged, KeyAdded, KeyRevoked, PublicKey
from registry.ledger.people import without_words_of
from registry.ledger.state import LedgerState, RevokedKey
from registry.ledger.steps import illegal

SHOWN = 12
"""So many characters of a key's id are shown to a person."""


def key_added(ledger_state: LedgerState, entry: Entry, body: KeyAdded) -> LedgerState:
    """Trust one more key."""
    key_id = body.key.key_id
    name = f"key {key_id[:SHOWN]}"
    # A second role for the same key would be ambiguous.
    if ledger_state.key(key_id) is not None:
        raise illegal(entry, f"{name} is there already")
    # What was taken back for a reason does not come back under another one.
    revoked = ledger_state.revoked_keys.get(key_id)
    if revoked is not None:
        raise illegal(
            entry,
            f"{name} was revoked at entry {revoked.generation}",
        )
    keys = (*ledger_state.keys, body.key)
    return ledger_state.model_copy(update={"keys": keys})


def key_revoked(
    ledger_state: LedgerState, entry: Entry, body: KeyRevoked
) -> LedgerState:
    """Trust a key no more; of a revoked one it may become known later that it was stolen."""
    key = _key_to_revoke(ledger_state, entry, body)
    keys = tuple(each for each in ledger_state.keys if each.key_id != body.key_id)
    # A ledger without a controller's key could never be written again.
    if not any(each.role == "controller" for each in keys):
        raise illegal(
            entry,
            "the last key of the controller cannot be revoked before another one is added",
        )
    earlier = ledger_state.revoked_keys.get(body.key_id)
    # The first entry counts: later signatures of that key were never trusted.
    generation = entry.generation if earlier is None else earlier.generation
    revoked = RevokedKey(
        key=key,
        generation=generation,
        compromised_at=entry.generation if body.is_compromised else None,
    )
    revoked_keys = {**ledger_state.revoked_keys, body.key_id: revoked}
    changed = ledger_state.model_copy(
        update={"keys": keys, "revoked_keys": revoked_keys}
    )
    if body.is_compromised:
        return without_words_of(changed, body.key_id)
    return changed


def _key_to_revoke(
    ledger_state: LedgerState, entry: Entry, body: KeyRevoked
) -> PublicKey:
    key_id = body.key_id
    key = ledger_state.key(key_id)
    if key is not None:
        return key
    earlier = ledger_state.revoked_keys.get(key_id)
    shown = key_id[:SHOWN]
    received = ledger_state.received_keys.get(key_id)
    # A key of another installation may be revoked here before it is revoked there.
    if earlier is None and received is not None:
        return received
    if earlier is None:
        raise illegal(entry, f"there is no key {shown}")
    # That it was stolen may turn out after it was replaced.
    is_news = body.is_compromised and earlier.compromised_at is None
    if not is_news:
        raise illegal(
            entry,
            f"key {shown} is revoked already, since entry {earlier.generation}",
        )
    return earlier.key


def find_distrust(ledger_state: LedgerState, key_id: str, registered: int) -> str:
    """Why a key's signature does not count for a version that was entered there; else empty.

    A rotation takes nothing away: a key counts for what was entered before it was revoked. A key
    that was revoked as compromised counts for no new release.
    """
    name = f"key {key_id[:SHOWN]}"
    key = ledger_state.known_key(key_id)
    if key is None or key.role != "packaging":
        return f"{name} is no packaging key that the ledger knows"
    if _is_foreign(ledger_state, key_id, registered):
        return f"{name} is of another installation, and counts for what came with it"
    revoked = ledger_state.revoked_keys.get(key_id)
    if revoked is None:
        return ""
    if revoked.compromised_at is not None:
        return f"{name} was revoked as compromised (entry {revoked.compromised_at})"
    if revoked.generation < registered:
        return (
            f"{name} was revoked at entry {revoked.generation}, "
            f"before the version was entered at entry {registered}"
        )
    return ""


def _is_foreign(ledger_state: LedgerState, key_id: str, registered: int) -> bool:
    """Whether the key is another installation's, and the version did not come with it."""
    is_own = ledger_state.key(key_id) is not None
    if is_own or key_id not in ledger_state.received_keys:
        return False
    # Whoever has that key could sign packages in this one's name otherwise.
    came_with_it = {
        registration.generation
        for registration in ledger_state.registrations.values()
        if registration.received is not None
        and registration.received.signer is not None
        and registration.received.signer.key_id == key_id
    }
    return registered not in came_with_it


def check_signer(ledger_state: LedgerState, entry: Entry, judged: Judged) -> None:
    """`IllegalEntry` where the verdict leans on the signature of a key that does not count."""
    if judged.signed_by is None:
        return
    # Without a registration nothing says which keys counted then.
    if judged.registration is None:
        raise illegal(
            entry, "it names a signature and no registration of what was signed"
        )
    distrust = find_distrust(ledger_state, judged.signed_by, judged.registration)
    if distrust:
        raise illegal(
            entry, f"the package is not signed by a key that counts: {distrust}"
        )
