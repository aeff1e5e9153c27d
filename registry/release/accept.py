"""Accept a ledger that lacks entries which others remember.

One entry says who accepted it and why. What the lost entries revoked is revoked again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from core.errors import DamagedFile, LedgerError, ReleaseError
from core.value import Value
from registry.ledger.audit import (
    KnownHead,
    add_revocations,
    find_lost_heads,
    find_store_faults,
)
from registry.ledger.entries import Body, HeadAccepted, LostHead, Revoked
from registry.ledger.heads import (
    elsewhere_file,
    is_new,
    read_elsewhere,
    read_record,
    write_elsewhere,
    write_record,
)
from registry.ledger.keys import load_key
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.release.context import ChangeRequest, append, attribute


class AcceptedHead(Value):
    """The head that counts from now on, what was lost, and what was revoked again."""

    generation: int
    lost: tuple[KnownHead, ...]
    revoked: tuple[tuple[str, str], ...]
    """Model and version of each."""


class _MissingRevocation(TypedDict):
    model: str
    version: str
    adapter_sha256: str | None


@dataclass(frozen=True)
class _Doubt:
    """What disagrees with the ledger, and the proven heads that revocations are taken from."""

    lost: tuple[KnownHead, ...]
    proven: tuple[KnownHead, ...]
    is_doubted: bool


def accept_head(
    ledger: Ledger, heads: Iterable[KnownHead], request: ChangeRequest
) -> AcceptedHead:
    """Accept the verified ledger as it is, and enter revocations that only others know.

    A call that was interrupted is completed by the next one.
    `ReleaseError` where all that is known agrees with the ledger: there is nothing to accept.
    """
    initial_state = ledger.state()
    known = tuple(heads)
    doubt = _examine(ledger, initial_state, known)
    # Known before anything is entered: a needless acceptance would hide a later loss.
    missing = _next_missing_revocation(initial_state, doubt.proven)
    if not doubt.is_doubted and missing is None:
        raise ReleaseError(
            f"All that is known agrees with the ledger up to entry "
            f"{initial_state.head.generation}: there is nothing to accept."
        )
    ledger_state = _enter(ledger, initial_state, doubt, request)
    # The record comes last: while it is old, the next call still sees the doubt and completes it.
    home = ledger.home
    write_record(home, ledger_state, load_key(home), also=doubt.proven)
    _forget_damage(home)
    return AcceptedHead(
        generation=ledger_state.head.generation,
        lost=doubt.lost,
        revoked=_newly_revoked(initial_state, ledger_state),
    )


def _examine(
    ledger: Ledger, ledger_state: LedgerState, heads: tuple[KnownHead, ...]
) -> _Doubt:
    lost = find_lost_heads(ledger, ledger_state, heads)
    # A head whose revocations cannot be proven must not revoke anything.
    candidates = [add_revocations(head, ledger) for head in heads]
    proven = tuple(head for head in candidates if head is not None)
    is_doubted = bool(lost) or _is_in_doubt(ledger.home, ledger_state)
    return _Doubt(
        lost=lost,
        proven=proven,
        is_doubted=is_doubted,
    )


def _enter(
    ledger: Ledger, ledger_state: LedgerState, doubt: _Doubt, request: ChangeRequest
) -> LedgerState:
    """Append the acceptance where there is doubt, then each missing revocation."""
    attribution = attribute(request, ledger)
    if doubt.is_doubted:
        accepted = HeadAccepted(lost=_distinct(doubt.lost), **attribution)
        ledger_state = _append_body(ledger, accepted)
    # The state is read after each entry: one revocation takes all versions of the same bytes.
    while True:
        missing = _next_missing_revocation(ledger_state, doubt.proven)
        if missing is None:
            return ledger_state
        ledger_state = _append_body(ledger, Revoked(**missing, **attribution))


def _append_body(ledger: Ledger, body: Body) -> LedgerState:
    return append(ledger, lambda _: body)


def _distinct(lost: tuple[KnownHead, ...]) -> tuple[LostHead, ...]:
    """Each lost head once, however many places remember it."""
    by_hash = {head.hash: head for head in lost}
    heads = by_hash.values()
    return tuple(LostHead(generation=head.generation, hash=head.hash) for head in heads)


def _newly_revoked(
    earlier: LedgerState, later: LedgerState
) -> tuple[tuple[str, str], ...]:
    revoked: list[tuple[str, str]] = []
    for name, model in later.models.items():
        already_revoked = earlier.model(name).revoked
        # One revocation may bar several versions, by their common adapter.
        added = sorted(model.revoked - already_revoked)
        revoked += [(name, version) for version in added]
    return tuple(revoked)


def _is_in_doubt(home: Path, ledger_state: LedgerState) -> bool:
    """Whether a file of this home is missing or damaged, or the home never saw this ledger."""
    if find_store_faults(home):
        return True
    return read_record(home) is None and not is_new(home, ledger_state)


def _next_missing_revocation(
    ledger_state: LedgerState, heads: tuple[KnownHead, ...]
) -> _MissingRevocation | None:
    """A version that others know as revoked and the ledger does not; None where there is none.

    One at a time, since a revocation takes every version of the same bytes with it.
    """
    versions = _missing_versions(ledger_state, heads)
    if not versions:
        return None
    model, version = versions[0]
    # Revoked bytes that no version names are entered together with one of the versions.
    adapters = _missing_adapters(ledger_state, heads)
    return {
        "model": model,
        "version": version,
        "adapter_sha256": adapters[0] if adapters else None,
    }


def _missing_versions(
    ledger_state: LedgerState, heads: tuple[KnownHead, ...]
) -> list[tuple[str, str]]:
    missing: set[tuple[str, str]] = set()
    for head in heads:
        for name, versions in head.revoked.items():
            already_revoked = ledger_state.model(name).revoked
            for version in versions:
                if version not in already_revoked:
                    missing.add((name, version))
    return sorted(missing)


def _missing_adapters(
    ledger_state: LedgerState, heads: tuple[KnownHead, ...]
) -> list[str]:
    adapters: set[str] = set()
    for head in heads:
        adapters.update(head.revoked_adapters)
    return sorted(adapters - ledger_state.revoked_adapters.keys())


def _forget_damage(home: Path) -> None:
    """Delete a damaged copy of what was read elsewhere, so that it is read there again."""
    try:
        read_elsewhere(home)
    except (DamagedFile, LedgerError):
        # Replaced first: then there is a plain file to delete, whatever was damaged.
        write_elsewhere(home, ())
        elsewhere_file(home).unlink()
