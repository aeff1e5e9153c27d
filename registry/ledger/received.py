"""Versions of other installations: received with what a trusted ledger says of them.

Steps of `registry.ledger.rules`. Whether that ledger is trusted is not asked here, since entries
hold no settings: `registry/release/transfer.py` verifies it before either entry is written.
"""

from registry.ledger.entries import (
    Entry,
    OriginHead,
    OriginSeen,
    Received,
    VersionContents,
)
from registry.ledger.state import LedgerState, Registration
from registry.ledger.steps import illegal


def received(ledger_state: LedgerState, entry: Entry, body: Received) -> LedgerState:
    """Hold a version's bytes in the place of a registration."""
    _check_origin(ledger_state, entry, body.origin)
    _check_new(ledger_state, entry, body)
    _check_signer(ledger_state, entry, body)
    contents = body.model_dump(include=set(VersionContents.model_fields))
    registration = Registration(
        generation=entry.generation,
        at=entry.at,
        by=body.by,
        account=body.account,
        made=VersionContents.model_validate(contents),
        is_adopted=False,
        received=body,
    )
    # The origin's head is known from here on, so that an older one is refused.
    changes = {
        "registrations": {
            **ledger_state.registrations,
            registration.key: registration,
        },
        "origins": {**ledger_state.origins, body.origin.name: body.origin},
    }
    signer = body.signer
    # An own key that came back stays an own one, also after it is replaced.
    if signer is not None and ledger_state.key(signer.key_id) is None:
        # Beside the own keys, and never among those that may sign entries.
        changes["received_keys"] = {
            **ledger_state.received_keys,
            signer.key_id: signer,
        }
    return ledger_state.model_copy(update=changes)


def origin_seen(
    ledger_state: LedgerState, entry: Entry, body: OriginSeen
) -> LedgerState:
    """Remember how far another ledger goes, and what it revoked."""
    _check_origin(ledger_state, entry, body.origin)
    known = ledger_state.origins.get(body.origin.name)
    if known == body.origin:
        raise illegal(entry, f"{known.name} was read as far as that already")
    # An adapter keeps the entry that named it first.
    revoked_in_origin = {
        **dict.fromkeys(body.revoked_adapters, entry.generation),
        **ledger_state.revoked_in_origin,
    }
    changes = {
        "origins": {**ledger_state.origins, body.origin.name: body.origin},
        "revoked_in_origin": revoked_in_origin,
    }
    return ledger_state.model_copy(update=changes)


def find_origin_fault(ledger_state: LedgerState, origin: OriginHead) -> str:
    """Why that head does not follow what was read of the installation; empty where it does."""
    # What this ledger says cannot vouch for what this ledger says.
    if origin.ledger_id == ledger_state.head.ledger_id:
        return f"{origin.name} is this very ledger"
    for known in ledger_state.origins.values():
        is_same_name = known.name == origin.name
        is_same_ledger = known.ledger_id == origin.ledger_id
        if is_same_name != is_same_ledger:
            return (
                f"ledger {origin.ledger_id[:12]} came as {origin.name},"
                f" and {known.name} was ledger {known.ledger_id[:12]}"
            )
        if not is_same_name:
            continue
        if origin.generation < known.generation:
            return (
                f"the ledger of {known.name} ends at entry {origin.generation},"
                f" and was read up to entry {known.generation}: it is an older copy"
            )
        # A longer one is compared entry by entry by whoever holds its export.
        is_same_place = origin.generation == known.generation
        if is_same_place and origin.hash != known.hash:
            return (
                f"entry {known.generation} of {known.name} is another one than was"
                " read before: its ledger was rewritten"
            )
    return ""


def _check_origin(ledger_state: LedgerState, entry: Entry, origin: OriginHead) -> None:
    fault = find_origin_fault(ledger_state, origin)
    if fault:
        raise illegal(entry, fault)


def _check_new(ledger_state: LedgerState, entry: Entry, body: Received) -> None:
    earlier = ledger_state.registration(
        body.model,
        body.version,
    )
    # Another package under the same number is allowed: MLflow may restart its numbers.
    if earlier is not None and earlier.made.package_sha256 == body.package_sha256:
        raise illegal(
            entry,
            f"version {body.version} of {body.model} is in the ledger already,"
            f" since entry {earlier.generation}",
        )


def _check_signer(ledger_state: LedgerState, entry: Entry, body: Received) -> None:
    signer = body.signer
    if signer is None:
        return
    shown = signer.key_id[:12]
    if signer.role != "packaging":
        raise illegal(entry, f"key {shown} signs no packages")
    # Under one id there is one key: the rules would not know which one is meant.
    key_id = signer.key_id
    known = ledger_state.known_key(key_id)
    if known is not None and known != signer:
        raise illegal(entry, f"key {shown} is known here for something else")
    # Somebody here knows better than the origin does.
    revoked = ledger_state.revoked_keys.get(key_id)
    if revoked is not None:
        raise illegal(
            entry,
            f"key {shown} was revoked here, at entry {revoked.generation}",
        )
