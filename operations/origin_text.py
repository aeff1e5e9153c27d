"""Where a version came from that another installation made: for its page and its report."""

from collections.abc import Iterator

from registry.ledger.entries import Received
from registry.ledger.state import Registration

_MOST_NAMED = 5


def describe_origin(registration: Registration | None) -> tuple[str, ...]:
    """A sentence or two on where a version came from; none where it was made here."""
    received = None if registration is None else registration.received
    if received is None:
        return ()
    return tuple(_sentences(received))


def _sentences(received: Received) -> Iterator[str]:
    origin = received.origin
    yield (
        f"Received from {origin.name}, where it is version {received.version_there}, made for "
        f"{received.by} on {received.made_at:%Y-%m-%d} (entry {received.entered_there} of ledger "
        f"{origin.ledger_id[:12]}, read up to entry {origin.generation})."
    )
    if received.released_by is not None:
        yield f"Released there by {received.released_by}."
    # Each once, in the order in which they approved.
    names = list(dict.fromkeys(approval.by for approval in received.approvals))
    if not names:
        return
    listed = ", ".join(names[:_MOST_NAMED])
    if len(names) > _MOST_NAMED:
        listed += f" and {len(names) - _MOST_NAMED} more"
    yield (
        f"Approved there by {listed}; here that counts only where the policy's "
        "`judge.origin_approvals` says so."
    )
