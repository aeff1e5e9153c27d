"""What the step of every kind of entry is made of."""

from typing import Any

from core.errors import IllegalEntry
from registry.ledger.entries import Entry
from registry.ledger.state import LedgerState, RecordedRelease


def illegal(entry: Entry, fact: str) -> IllegalEntry:
    """The error that says why an entry may not follow."""
    return IllegalEntry(
        f"Entry {entry.generation} ({entry.body.kind}) does not follow: {fact}."
        " `assay status` shows the state of the ledger."
    )


def with_model(ledger_state: LedgerState, model: str, **changes: Any) -> LedgerState:
    """The state with those fields of one model changed."""
    model_state = ledger_state.model(model)
    models = {
        **ledger_state.models,
        model: model_state.model_copy(update=changes),
    }
    return ledger_state.model_copy(update={"models": models})


def pending_release(
    ledger_state: LedgerState, entry: Entry, begun: int
) -> RecordedRelease:
    """The release on its way that began at that generation; `IllegalEntry` where none did."""
    for model in ledger_state.models.values():
        if model.pending is not None and model.pending.begun == begun:
            return model.pending
    raise illegal(entry, f"no release that began at entry {begun} is on its way")
