"""What version pages in MLflow remember of the ledger, sealed by a key of the ledger."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError

from core.errors import BrokenLedger, LedgerError
from registry.ledger.audit import LOOK, PAGE_TAG, KnownHead, find_lost_heads
from registry.ledger.entries import Entry, Revoked
from registry.ledger.heads import (
    HeadRecord,
    RemoteRecord,
    SealedRecord,
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
    # Whoever may write to MLflow can edit a page, but not forge its seal.
    sealed = SealedRecord.sign(record, load_key(ledger.home))
    return {RECORD_TAG: sealed.model_dump_json()}


def mark_revoked(
    store: "Store", ledger: Ledger, ledger_state: LedgerState, model: str, version: str
) -> None:
    """Have the page of a revoked version say so; a version that MLflow lacks has no page."""
    registered = store.known(model, version)
    if registered is None:
        return
    # Where no entry names the version, another one with the same adapter was revoked.
    sentence = "with the same adapter under another name. It never serves again."
    record = HeadRecord.about(ledger_state, model, version)
    revocation = _find_revocation(ledger, model, version)
    if revocation is not None:
        entry, body = revocation
        sentence = (
            f"since {entry.at:%Y-%m-%d %H:%M} UTC (entry {entry.generation} of the ledger). "
            "It never serves again."
        )
        record = _with_adapter(record, body.adapter_sha256)
    tags = {REVOKED_TAG: sentence, **sealed_tag(ledger, record)}
    store.annotate(registered, tags)


def _with_adapter(record: HeadRecord, adapter_sha256: str | None) -> HeadRecord:
    """The record with the revoked bytes, by which the page bars them under other names, too."""
    adapters = set(record.revoked_adapters)
    if adapter_sha256:
        adapters.add(adapter_sha256)
    return record.model_copy(update={"revoked_adapters": tuple(sorted(adapters))})


def _find_revocation(
    ledger: Ledger, model: str, version: str
) -> tuple[Entry, Revoked] | None:
    """The first entry that revokes that version, and its body."""
    for entry in ledger.iterate_entries():
        body = entry.body
        if not isinstance(body, Revoked):
            continue
        if (body.model, body.version) == (model, version):
            return entry, body
    return None


def read_sealed_pages(
    store: "Store", trusted: frozenset[str], ever: frozenset[str]
) -> tuple[tuple[RemoteRecord, ...], tuple[str, ...]]:
    """Every sealed record on a version page, and a sentence for each that was edited.

    `trusted`: the keys that count. `ever`: those that were trusted once; what a revoked one sealed
    counts no more, and is no alarm.
    """
    records: list[RemoteRecord] = []
    sentences: list[str] = []
    for page, text in sorted(store.pages_with(RECORD_TAG).items()):
        place = f"the page of {page}"
        sealed = _parse_sealed(text)
        if sealed is not None and sealed.is_sealed_by(trusted):
            records.append(RemoteRecord(where=place, sealed=sealed))
        elif sealed is None or not sealed.is_sealed_by(ever):
            sentences.append(
                f"{place} holds a tag {RECORD_TAG} that no key of this ledger sealed: "
                "it was edited, and does not count."
            )
    return tuple(records), tuple(sentences)


def _parse_sealed(text: str) -> SealedRecord | None:
    try:
        return SealedRecord.model_validate_json(text)
    except ValidationError:
        return None


def check_pages(store: "Store", ledger: Ledger, ledger_state: LedgerState) -> None:
    """Refuse a release while a sealed page remembers an entry that the ledger does not hold.

    `BrokenLedger` with the page: a revocation that was cut off the ledger is still on its page.
    """
    trusted = trusted_keys(ledger.home, ledger_state)
    # Pages that were edited do not count here; the controller raises an alarm for them.
    records, _ = read_sealed_pages(store, trusted, frozenset())
    heads = [KnownHead.of(record.sealed.record, record.where) for record in records]
    for lost in find_lost_heads(ledger, ledger_state, heads):
        raise BrokenLedger(
            f"{lost.where} remembers entry {lost.generation}, and the ledger does not hold that: "
            "its end was cut off, or an older copy was put back. "
            f"Nothing is released. {LOOK}"
        )


def find_lost_pages(
    store: "Store", ledger: Ledger, ledger_state: LedgerState
) -> tuple[str, ...]:
    """A sentence for each page whose head, sealed or not, the ledger does not hold."""
    # Sorted: an alarm should not change its order between two looks.
    pages = sorted(store.pages_with(PAGE_TAG).items())
    return tuple(
        sentence
        for page, text in pages
        for sentence in _head_faults(page, text, ledger, ledger_state)
    )


def _head_faults(
    page: str, text: str, ledger: Ledger, ledger_state: LedgerState
) -> Iterator[str]:
    try:
        head = KnownHead.from_tag(text, f"the page of {page}")
    except LedgerError as error:
        # A tag that cannot be read was edited: that is reported as well.
        yield str(error)
        return
    if find_lost_heads(ledger, ledger_state, (head,)):
        yield (
            f"{head.where} remembers entry {head.generation}, "
            f"and the ledger does not hold that. {LOOK}"
        )
