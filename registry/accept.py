"""Accepting a ledger that lacks what others remember: one entry that says who and why, and what was revoked is revoked again."""

from collections.abc import Iterable
from pathlib import Path

from pipelines.errors import DamagedFile, LedgerError, ReleaseError
from pipelines.value import Value
from registry.audit import KnownHead, lost_heads, store_faults, with_revocations
from registry.desk import Order, append
from registry.entries import HeadAccepted, LostHead, Revoked
from registry.heads import elsewhere_file, is_new, read_elsewhere, read_record, write_elsewhere, write_record
from registry.keys import load_key
from registry.ledger import Ledger
from registry.standing import Standing


class Accepted(Value):
    """The head that counts from now on, what was lost, and what was revoked again."""

    generation: int
    lost: tuple[KnownHead, ...]
    revoked: tuple[tuple[str, str], ...]


def accept_head(ledger: Ledger, known: Iterable[KnownHead], order: Order) -> Accepted:
    """Have the verified ledger count as it is. What is known as revoked from elsewhere is entered again.

    `ReleaseError` where everything that is known agrees with the ledger: there is nothing to accept then.
    """
    standing = ledger.standing()
    known = tuple(known)
    lost = lost_heads(ledger, standing, known)
    known = tuple(proven for each in known if (proven := with_revocations(each, ledger)) is not None)
    if not lost and not _is_in_doubt(ledger.home, standing):
        raise ReleaseError(f"All that is known agrees with the ledger up to entry {standing.head.generation}: there is nothing to accept.")
    why = ledger.remember(order.reason)
    entries = tuple(LostHead(generation=each.generation, hash=each.hash) for each in {each.hash: each for each in lost}.values())
    standing = append(ledger, lambda _: HeadAccepted(lost=entries, by=order.by, reason_sha256=why))
    before = standing
    for body in _revocations(standing, known, order.by, why):
        standing = append(ledger, lambda _, body=body: body)  # type: ignore[misc]
    write_record(ledger.home, standing, load_key(ledger.home))
    _forget_damage(ledger.home)
    names = standing.models.items()
    again = tuple((name, each) for name, model in names for each in sorted(model.revoked - before.model(name).revoked))
    return Accepted(generation=standing.head.generation, lost=lost, revoked=again)


def _is_in_doubt(home: Path, standing: Standing) -> bool:
    """Something of this home's own is gone or damaged, or it never saw this ledger."""
    return bool(store_faults(home)) or (read_record(home) is None and not is_new(home, standing))


def _revocations(standing: Standing, known: tuple[KnownHead, ...], by: str, why: str) -> tuple[Revoked, ...]:
    """What others know as revoked and the ledger does not. Bytes that are known by no version go with one of them."""
    versions = {(name, number) for each in known for name, numbers in each.revoked.items() for number in numbers}
    missing = sorted(each for each in versions if each[1] not in standing.model(each[0]).revoked)
    adapters = sorted({adapter for each in known for adapter in each.revoked_adapters} - standing.revoked_adapters.keys())
    padded = (*adapters, *(None for _ in missing))
    return tuple(
        Revoked(model=name, version=number, adapter_sha256=adapter, by=by, reason_sha256=why)
        for (name, number), adapter in zip(missing, padded, strict=False)
    )


def _forget_damage(home: Path) -> None:
    """What was read elsewhere is read anew where it was damaged."""
    try:
        read_elsewhere(home)
    except (DamagedFile, LedgerError):
        write_elsewhere(home, ())
        elsewhere_file(home).unlink()
