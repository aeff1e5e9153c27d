"""What releases and brakes work with, and how either appends an entry to the ledger."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypedDict

from core.errors import StaleGeneration
from registry.ledger.entries import Body
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.release.following import EndpointState, FollowingEndpoint

ATTEMPTS = 20
"""How often another writer may come first before an entry is given up."""


@dataclass(frozen=True)
class ChangeRequest:
    """Who wants a change of what serves, and why."""

    by: str
    reason: str
    account: str | None = None
    """The operating system's account in which the command was typed."""
    wished: int | None = None
    """The entry of the wish that is answered; None where a command asks."""


class Attribution(TypedDict):
    """The fields of an entry that say who asked for it, and the digest of the reason."""

    by: str
    account: str | None
    reason_sha256: str


@dataclass(frozen=True)
class Patience:
    """Limits in seconds on a monotonic clock: setting the system's clock changes nothing."""

    to_load: float = 300.0
    to_switch: float = 30.0
    to_brake: float = 2.0
    # Where several endpoints have to obey: one that was killed is waited for until its lease ends.
    to_brake_several: float = 15.0
    between_looks: float = 0.1
    until: float | None = None
    """When whoever drives gives up waiting; the release stays as it is, for the controller."""

    @property
    def seconds_left(self) -> float | None:
        """How long a driver may still wait, at least 0; None: for as long as it takes."""
        if self.until is None:
            return None
        left = self.until - time.monotonic()
        return max(0.0, left)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class ReleaseContext:
    """What a release or a brake works with."""

    ledger: Ledger
    endpoint: FollowingEndpoint
    patience: Patience = Patience()
    now: Callable[[], datetime] = _now
    """The time of day, for change windows alone: all else is on a monotonic clock."""


def attribute(request: ChangeRequest, ledger: Ledger) -> Attribution:
    """Keep the reason beside the ledger, and give the fields of an entry that refers to it."""
    # The text is kept first: no entry may refer to a reason that is nowhere.
    return Attribution(
        by=request.by,
        account=request.account,
        reason_sha256=ledger.remember(request.reason),
    )


def append(ledger: Ledger, body: Callable[[LedgerState], Body]) -> LedgerState:
    """Append the entry that `body` makes of the ledger's state.

    Where somebody else writes at the same time, `body` is called again with the newer state.
    `StaleGeneration` where others came first in all attempts.
    """
    # Others write as well: controller, admission, commands.
    for _ in range(ATTEMPTS):
        ledger_state = ledger.state()
        # The entry must follow from the state that it is appended to, never from an older one.
        try:
            return ledger.append(body(ledger_state), ledger_state)
        except StaleGeneration:
            continue
    raise StaleGeneration(
        f"Others wrote to the ledger first, {ATTEMPTS} times in a row. "
        "Run the same command again."
    )


def describe_alarms(endpoint_state: EndpointState) -> str:
    """The endpoint's alarms in brackets, to append to a sentence; empty where there are none.

    Of several endpoints also which of them are waited for.
    """
    sentences = (*endpoint_state.laggards, *endpoint_state.alarms)
    if not sentences:
        return ""
    return f" ({'; '.join(sentences)})"
