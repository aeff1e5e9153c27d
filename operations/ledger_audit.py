"""`assay audit`: is the ledger complete and unchanged? Everyone who remembers its heads is asked.

endpoint, exports, this home ─┐
version pages in MLflow ──────┼──> known heads ──> verify, accept
witness ──────────────────────┘
"""

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from core.environment import mlflow_address, set_library_environment
from core.errors import AssayError, LedgerError
from core.project import Project
from operations.orders import current_project, make_brake_order
from registry.ledger.audit import (
    PAGE_TAG,
    AuditReport,
    KnownHead,
    export,
    find_store_faults,
    keep_export,
    known_heads,
    read_all_keys,
    verify,
    verify_export,
)
from registry.ledger.heads import trusted_keys
from registry.ledger.keys import load_key
from registry.ledger.ledger import Ledger, open_ledger, read_ledger
from registry.ledger.witness import witness
from registry.mlflow.own_database import own_database
from registry.mlflow.pages import read_sealed_pages
from registry.release.accept import AcceptedHead, accept_head

if TYPE_CHECKING:
    from registry.ledger.entries import Head
    from registry.ledger.state import LedgerState

# For a connection alone, which a server on the network takes in milliseconds.
SECONDS_FOR_MLFLOW = 2.0
_PORTS = {"http": 80, "https": 443, "postgresql": 5432}
_SHOWN_OF_A_KEY = 12


@dataclass(frozen=True)
class Heads:
    """Heads of the ledger that others remember, and a note for whoever could not be asked."""

    known: tuple[KnownHead, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: "Heads") -> "Heads":
        """Both together, in this order."""
        return Heads(
            known=self.known + other.known,
            notes=self.notes + other.notes,
        )


@dataclass(frozen=True)
class Acceptance:
    """What was accepted, and who could not be asked about it."""

    accepted: AcceptedHead
    notes: tuple[str, ...]


def audit_ledger() -> AuditReport:
    """Verify the ledger of this project's home; `LedgerError` where there is none."""
    project = current_project()
    ledger = read_ledger(project.home)
    heads = _heads_known_elsewhere(project, ledger)
    report = verify(ledger, heads.known)
    # A whole ledger beside a damaged head record is still a reason to look.
    faults = find_store_faults(project.home)
    if report.is_whole and faults:
        report = report.model_copy(update={"problem": " ".join(faults)})
    key_notes = _key_notes(project.home, ledger, report)
    notes = (*report.notes, *heads.notes, *key_notes)
    return report.model_copy(update={"notes": notes})


def audit_export(path: Path) -> AuditReport:
    """Verify an export against the heads that this home remembers; no database is needed."""
    known, _ = known_heads(current_project().home)
    return verify_export(path, known)


def export_ledger(into: Path, *, with_reasons: bool) -> "Head":
    """Write an export, keep a copy where the next audit finds it, and give the last head in it.

    `LedgerError` where there is no ledger that can be read.
    """
    home = current_project().home
    ledger = read_ledger(home)
    head = export(ledger, into, with_texts=with_reasons)
    # The next audit compares the ledger with it, as with any other memory of the ledger.
    keep_export(into, home)
    return head


def accept_ledger(reason: str) -> Acceptance:
    """Have the ledger count as it is, where others remember more of it.

    `ParameterError` without a reason; `LedgerError` where there is no ledger: a missing one is
    restored, not accepted. `ReleaseError` where there is nothing to accept.
    """
    order = make_brake_order(reason)
    project = current_project()
    # Opening would create a ledger where there is none.
    read_ledger(project.home)
    ledger = open_ledger(project.home)
    heads = _heads_known_elsewhere(project, ledger)
    return Acceptance(accept_head(ledger, heads.known, order), heads.notes)


def erase_reason(digest: str) -> None:
    """Erase the text of a reason for good; the ledger stays verifiable.

    `LedgerError` where no reason has that SHA-256.
    """
    home = current_project().home
    ledger = open_ledger(home)
    ledger.erase(digest)


def witnessed_heads(home: Path, ledger_state: "LedgerState | None") -> Heads:
    """Give what the witness remembers, or a note where it does not answer."""
    try:
        configured = witness()
        if configured is None:
            return Heads()
        # The witness may hold records that a foreign key sealed; they prove nothing.
        sealed = configured.read_furthest(trusted_keys(home, ledger_state))
    except LedgerError as error:
        return Heads(notes=(str(error).rstrip("."),))
    if sealed is None:
        return Heads()
    head = KnownHead.of(sealed.record, configured.name)
    return Heads(known=(head,))


def page_heads(
    project: Project,
    ledger_state: "LedgerState | None" = None,
    every_key: frozenset[str] = frozenset(),
) -> Heads:
    """Give what the version pages remember, or a note where MLflow does not answer at once.

    `every_key` holds the ids of all keys that the ledger ever had.
    """
    if not is_mlflow_there(project):
        return Heads(notes=("version pages were not looked at: MLflow is not there",))
    # Only here: without version pages an audit needs no MLflow at all.
    set_library_environment()
    from registry.mlflow.home_store import open_store

    try:
        store = open_store(project)
        # Each page names its head twice: as text in this tag, and sealed in another.
        pages = store.pages_with(PAGE_TAG)
        trusted = trusted_keys(project.home, ledger_state)
        records, complaints = read_sealed_pages(store, trusted, every_key)
    except AssayError as error:
        return Heads(notes=(f"version pages were not looked at: {error}",))
    sealed_heads = tuple(
        KnownHead.of(record.sealed.record, record.where) for record in records
    )
    notes = tuple(complaint.rstrip(".") for complaint in complaints)
    return Heads(sealed_heads, notes) + _plain_heads(pages, sealed_heads)


def is_mlflow_there(project: Project) -> bool:
    """Tell whether MLflow's database exists, or its server takes a connection."""
    try:
        return _is_reachable(mlflow_address() or own_database(project.home))
    except (AssayError, ValueError):
        # Whoever opens an address that cannot be read reports it.
        return False


def _heads_known_elsewhere(project: Project, ledger: Ledger) -> Heads:
    """Give every head that is known from elsewhere, and what could not be looked at."""
    ledger_state = _state_for_keys(ledger)
    every_key: frozenset[str] = frozenset()
    with suppress(LedgerError):  # the audit itself reports a broken row
        every_key = read_all_keys(ledger)
    heads_in_home = Heads(*known_heads(project.home, ledger_state))
    heads_on_pages = page_heads(project, ledger_state, every_key)
    heads_at_witness = witnessed_heads(project.home, ledger_state)
    return heads_in_home + heads_on_pages + heads_at_witness


def _state_for_keys(ledger: Ledger) -> "LedgerState | None":
    """Give the ledger's state, for its keys; None where it is broken, which the audit reports."""
    with suppress(LedgerError):
        return ledger.state()
    return None


def _plain_heads(pages: dict[str, str], sealed: tuple[KnownHead, ...]) -> Heads:
    """Give the heads that pages name without a seal, less those that they name with one."""
    heads = Heads()
    for page, text in sorted(pages.items()):
        try:
            head = KnownHead.from_tag(text, f"the page of {page}")
        except AssayError as error:
            note = f"the page of {page} remembers no head that can be read: {error}"
            heads += Heads(notes=(note,))
            continue
        listed = {(other.where, other.hash) for other in sealed + heads.known}
        # One page is one memory, however many tags it has.
        if (head.where, head.hash) not in listed:
            heads += Heads(known=(head,))
    return heads


def _is_reachable(uri: str) -> bool:
    """Find out within seconds, where MLflow's own client would try for minutes."""
    parts = urlsplit(uri)
    # A file answers at once or not at all.
    if parts.scheme.startswith("sqlite"):
        path = uri.split(":///", 1)[-1]
        return Path(path).is_file()
    host = parts.hostname or ""
    # PostgreSQL behind a socket file has no host, and answers at once or not at all.
    if parts.scheme.startswith("postgresql") and not host:
        return True
    port = parts.port or _PORTS.get(parts.scheme.partition("+")[0], 80)
    try:
        with socket.create_connection((host, port), SECONDS_FOR_MLFLOW):
            return True
    except OSError:
        return False


def _key_notes(home: Path, ledger: Ledger, report: AuditReport) -> tuple[str, ...]:
    if not report.is_whole:
        return ()
    try:
        key_id = load_key(home).public.key_id
    except LedgerError as error:
        return (str(error).rstrip("."),)
    # A ledger that is whole may still have been written elsewhere, with other keys.
    if ledger.state().key(key_id) is not None:
        return ()
    note = (
        f"this machine's key {key_id[:_SHOWN_OF_A_KEY]} is not one that the ledger trusts: "
        "nothing can be written from here"
    )
    return (note,)
