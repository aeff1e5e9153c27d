"""The block of the sealed reserve that confirmed a version, as `judge` looks at it."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.values.evidence import Adapter
from registry.ledger.entries import BlockClosed, BlockOpened
from registry.ledger.state import LedgerState, Registration
from registry.mlflow.recorded import ModelVersion
from registry.release.confirmed import is_of_block, read_confirmation
from registry.release.judging.circumstances import Confirmed

Try = tuple[int, BlockOpened, BlockClosed | None]
"""The entry that opened a block, and what the ledger says of it."""


def confirmed_of(
    version: ModelVersion,
    package: Path,
    ledger_state: LedgerState,
    origin: Registration | None,
) -> Confirmed | None:
    """What the ledger holds of the block that this version's adapter opened; None: of none.

    Where it opened several, against one champion after another, the one whose evidence this is. Of
    a received version the ledger that it came from says it.
    """
    adapter = Adapter.read(package / "adapter.json").sha256
    stored = read_confirmation(package)
    found = None
    for generation, opened, closed in _tries(ledger_state, origin):
        if opened.adapter_sha256 != adapter:
            continue
        found = Confirmed(
            generation=generation,
            is_confirmed=closed is not None and closed.is_confirmed,
            against_sha256=opened.against_sha256,
            # A confirmation under another name is one of that name's year.
            is_evidence=opened.model == version.name
            and stored is not None
            and is_of_block(stored, opened, closed),
        )
        if found.is_evidence:
            break
    return found


def _tries(ledger_state: LedgerState, origin: Registration | None) -> Iterator[Try]:
    for recorded in ledger_state.confirmations:
        yield recorded.generation, recorded.opened, recorded.closed
    received = None if origin is None else origin.received
    there = None if received is None else received.confirmation
    if there is not None:
        yield there.generation, there.opened, there.closed
