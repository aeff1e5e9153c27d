"""The endpoint's own follower over a home, without the endpoint.

What it would load is what it obeys.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from registry.ledger.entries import Revoked
from registry.ledger.state import LedgerState
from serving.endpoint.follow import Follower
from serving.endpoint.limits import Limits
from tests.support.ledgers import MODEL, WHY

PATIENT = Limits(seconds_for_the_ledger=60.0)
REVOCATION = Revoked(model=MODEL, version="2", by="olga", reason_sha256=WHY)


@dataclass(frozen=True)
class Seen:
    """What an endpoint that starts in a home obeys, and what it warns of."""

    obeyed: LedgerState | None
    alarms: tuple[str, ...]

    @property
    def serves(self) -> str | None:
        """The version that would answer."""
        current = None if self.obeyed is None else self.obeyed.model(MODEL).answering
        return None if current is None else current.release.version


def start_follower(home: Path, looks: int = 1) -> Seen:
    """An endpoint starts there and looks so many times."""
    obeyed: list[LedgerState] = []

    async def follow() -> tuple[str, ...]:
        follower = Follower(home, PATIENT, obeyed.append)
        for _ in range(looks):
            await follower.look()
        return follower.alarms

    alarms = asyncio.run(follow())
    return Seen(obeyed[-1] if obeyed else None, alarms)
