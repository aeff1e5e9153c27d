"""What version pages in MLflow remember of the ledger, sealed by a key of the ledger."""

from typing import TYPE_CHECKING

from pydantic import ValidationError

from core.errors import BrokenLedger, LedgerError
from registry.ledger.audit import LOOK, PAGE_TAG, KnownHead, lost_heads
from registry.ledger.entries import Entry, Revoked
from registry.ledger.heads import (
    HeadRecord,
    SealedRecord,
    Told,
    trusted_keys,
)
from registry.ledger.keys import load_key
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState

if TYPE_CHECKING:
    from registry.mlflow.store import Store

RECORD_TAG = "assay.ledger_record"
"""Tag of a version page: the sealed head, and that the version is revoked."""
REVOKED_TAG = "assay.revoked"
"""Tag of a revoked version's page, for people."""


def sealed_tag(ledger: Ledger, record: HeadRecord) -> dict[str, str]:
    """What a version's page says of the ledger, sealed with this machine's key."""
    return {
        RECORD_TAG: SealedRecord.made(record, load_key(ledger.home)).model_dump_json()
    }


def mark_revoked(
    store: "Store", ledger: Ledger, ledger_state: LedgerState, model: str, version: str
) -> None:
    """Have the page of a revoked version say so. One that MLflow does not have has no page."""
    found = store.known(model, version)
    if found is None:
        return
    entry = _revocation(ledger, model, version)
    since = "with the same adapter under another name. It never serves again."
    record = HeadRecord.about(ledger_state, model, version)
    if entry is not None and isinstance(entry.body, Revoked):
        since = f"since {entry.at:%Y-%m-%d %H:%M} UTC (entry {entry.generation} of the ledger). It never serves again."
        named = {entry.body.adapter_sha256} if entry.body.adapter_sha256 else set()
        record = record.model_copy(
            update={
                "revoked_adapters": tuple(sorted({*record.revoked_adapters, *named}))
            }
        )
    store.annotate(found, {REVOKED_TAG: since, **sealed_tag(ledger, record)})


def _revocation(ledger: Ledger, model: str, version: str) -> Entry | None:
    for entry in ledger.each_entry():
        if isinstance(entry.body, Revoked) and (
            entry.body.model,
            entry.body.version,
        ) == (model, version):
            return entry
    return None


def told_by_pages(
    store: "Store", trusted: frozenset[str], ever: frozenset[str]
) -> tuple[tuple[Told, ...], tuple[str, ...]]:
    """Every sealed record on a version page, and a sentence for each that no key of the ledger ever sealed.

    `ever`: keys that were trusted once. What a revoked one sealed counts no more, and is no alarm.
    """
    told, wrong = [], []
    for page, text in sorted(store.pages_with(RECORD_TAG).items()):
        where = f"the page of {page}"
        try:
            sealed = SealedRecord.model_validate_json(text)
        except ValidationError:
            sealed = None
        if sealed is not None and sealed.is_by(trusted):
            told.append(Told(where=where, sealed=sealed))
        elif sealed is None or not sealed.is_by(ever):
            wrong.append(
                f"{where} holds a tag {RECORD_TAG} that no key of this ledger sealed: it was edited, and does not count."
            )
    return tuple(told), tuple(wrong)


def check_pages(store: "Store", ledger: Ledger, ledger_state: LedgerState) -> None:
    """`BrokenLedger` where a page that a key of this ledger sealed remembers an entry that the ledger does not hold.

    Asked before a release: a revocation that was cut off the ledger still stands on its page.
    """
    told, _ = told_by_pages(store, trusted_keys(ledger.home, ledger_state), frozenset())
    known = [KnownHead.of(each.sealed.record, each.where) for each in told]
    for lost in lost_heads(ledger, ledger_state, known):
        fact = f"{lost.where} remembers entry {lost.generation}, and the ledger does not hold that"
        raise BrokenLedger(
            f"{fact}: its end was cut off, or an older copy was put back. Nothing is released. {LOOK}"
        )


def lost_by_pages(
    store: "Store", ledger: Ledger, ledger_state: LedgerState
) -> tuple[str, ...]:
    """A sentence for each page whose head, sealed or not, the ledger does not hold."""
    wrong = []
    for page, text in sorted(store.pages_with(PAGE_TAG).items()):
        try:
            known = KnownHead.from_tag(text, f"the page of {page}")
        except LedgerError as error:
            wrong.append(str(error))
            continue
        if lost_heads(ledger, ledger_state, (known,)):
            wrong.append(
                f"{known.where} remembers entry {known.generation}, and the ledger does not hold that. {LOOK}"
            )
    return tuple(wrong)
