"""Accepting a ledger that lacks what others remember: one entry that says who and why, and what was revoked is revoked again."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

from core.errors import DamagedFile, LedgerError, ReleaseError
from core.value import Value
from registry.ledger.audit import KnownHead, lost_heads, store_faults, with_revocations
from registry.ledger.entries import HeadAccepted, LostHead, Revoked
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
from registry.release.context import Order, append


class Accepted(Value):
    """The head that counts from now on, what was lost, and what was revoked again."""

    generation: int
    lost: tuple[KnownHead, ...]
    revoked: tuple[tuple[str, str], ...]


def accept_head(ledger: Ledger, known: Iterable[KnownHead], order: Order) -> Accepted:
    """Have the verified ledger count as it is. What is known as revoked from elsewhere is entered again.

    One that was cut short is brought to its end by the next call.
    `ReleaseError` where everything that is known agrees with the ledger: there is nothing to accept then.
    """
    ledger_state = before = ledger.state()
    known = tuple(known)
    lost = lost_heads(ledger, ledger_state, known)
    known = tuple(
        proven
        for each in known
        if (proven := with_revocations(each, ledger)) is not None
    )
    is_doubted = bool(lost) or _is_in_doubt(ledger.home, ledger_state)
    if not is_doubted and _next_revoked(ledger_state, known) is None:
        raise ReleaseError(
            f"All that is known agrees with the ledger up to entry {ledger_state.head.generation}: there is nothing to accept."
        )
    why = ledger.remember(order.reason)
    entries = tuple(
        LostHead(generation=each.generation, hash=each.hash)
        for each in {each.hash: each for each in lost}.values()
    )
    if is_doubted:
        accepted = HeadAccepted(
            lost=entries, by=order.by, account=order.account, reason_sha256=why
        )
        ledger_state = append(ledger, lambda _: accepted)
    while (missing := _next_revoked(ledger_state, known)) is not None:
        revoked = Revoked(
            **missing, by=order.by, account=order.account, reason_sha256=why
        )
        ledger_state = append(ledger, lambda _, body=revoked: body)  # type: ignore[misc]
    write_record(ledger.home, ledger_state, load_key(ledger.home), also=known)
    _forget_damage(ledger.home)
    names = ledger_state.models.items()
    again = tuple(
        (name, each)
        for name, model in names
        for each in sorted(model.revoked - before.model(name).revoked)
    )
    return Accepted(generation=ledger_state.head.generation, lost=lost, revoked=again)


def _is_in_doubt(home: Path, ledger_state: LedgerState) -> bool:
    """Something of this home's own is gone or damaged, or it never saw this ledger."""
    return bool(store_faults(home)) or (
        read_record(home) is None and not is_new(home, ledger_state)
    )


class _Missing(TypedDict):
    model: str
    version: str
    adapter_sha256: str | None


def _next_revoked(
    ledger_state: LedgerState, known: tuple[KnownHead, ...]
) -> _Missing | None:
    """A version that others know as revoked and the ledger does not.

    Bytes that are known by no version go with one of them. One at a time, since a revocation takes
    every version of the same bytes with it.
    """
    versions = {
        (name, number)
        for each in known
        for name, numbers in each.revoked.items()
        for number in numbers
    }
    missing = sorted(
        each for each in versions if each[1] not in ledger_state.model(each[0]).revoked
    )
    adapters = sorted(
        {adapter for each in known for adapter in each.revoked_adapters}
        - ledger_state.revoked_adapters.keys()
    )
    if not missing:
        return None
    return {
        "model": missing[0][0],
        "version": missing[0][1],
        "adapter_sha256": adapters[0] if adapters else None,
    }


def _forget_damage(home: Path) -> None:
    """What was read elsewhere is read anew where it was damaged."""
    try:
        read_elsewhere(home)
    except (DamagedFile, LedgerError):
        write_elsewhere(home, ())
        elsewhere_file(home).unlink()
