"""What releases and brakes are carried out with, and how either enters something into the ledger."""

from collections.abc import Callable
from dataclasses import dataclass

from core.errors import StaleGeneration
from registry.ledger.entries import Body
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.release.following import EndpointState, FollowingEndpoint

ATTEMPTS = 20
"""Writers who come first each time before an order is given up."""


@dataclass(frozen=True)
class Order:
    """Who wants it, and why."""

    by: str
    reason: str
    account: str | None = None
    """Of the operating system, under which it was typed."""


@dataclass(frozen=True)
class Patience:
    """Seconds on a monotonic clock: one that is set back or forward changes nothing."""

    to_load: float = 300.0
    to_switch: float = 30.0
    to_brake: float = 2.0
    between_looks: float = 0.1


@dataclass(frozen=True)
class ReleaseContext:
    """What a release is carried out with."""

    ledger: Ledger
    endpoint: FollowingEndpoint
    patience: Patience = Patience()


def append(ledger: Ledger, body: Callable[[LedgerState], Body]) -> LedgerState:
    """Enter what `body` makes of how things stand; whoever else writes at the same time, it is made of what then stands."""
    for _ in range(ATTEMPTS):
        ledger_state = ledger.state()
        try:
            return ledger.append(body(ledger_state), ledger_state)
        except StaleGeneration:
            continue
    raise StaleGeneration(
        f"Others wrote to the ledger first, {ATTEMPTS} times in a row. Run the same command again."
    )


def alarms(seen: EndpointState) -> str:
    """What the endpoint warns of, to be put behind a fact."""
    return f" ({'; '.join(seen.alarms)})" if seen.alarms else ""
