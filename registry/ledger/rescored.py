"""A release that was scored again while it answered: a step of `registry.ledger.rules`.

It changes nothing by itself. What comes of it is another entry, by whoever reads this one.
"""

from registry.ledger.entries import Entry, Rescored
from registry.ledger.state import LedgerState, RecordedRelease
from registry.ledger.steps import illegal


def rescored(ledger_state: LedgerState, entry: Entry, body: Rescored) -> LedgerState:
    """Take scores of the very bytes that answer, against those that a rollback leads to."""
    model = ledger_state.model(body.model)
    answering = model.answering
    if answering is None or answering.begun != body.begun:
        raise illegal(
            entry,
            f"the release that began at entry {body.begun} does not answer for {body.model}",
        )
    # MLflow's numbers begin again where it was lost: scores are of bytes.
    if not _is_of(answering, body):
        raise illegal(entry, "other bytes were scored than those that answer")
    if body.against is None:
        return ledger_state
    before = model.before
    if before is None or before.begun != body.against:
        raise illegal(
            entry,
            f"the release that began at entry {body.against} is not the one before it",
        )
    return ledger_state


def _is_of(recorded: RecordedRelease, body: Rescored) -> bool:
    release = recorded.release
    is_same_version = release.version == body.version
    return is_same_version and release.package_sha256 == body.package_sha256
