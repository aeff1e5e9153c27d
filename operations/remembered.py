"""Who else remembers the ledger: the controller informs them, and compares their memory with it.

Version pages carry a sealed head and, for a revoked version, that it is revoked. Whoever may edit
MLflow may edit a page, so only a record that a key of the ledger sealed keeps the ledger from
being obeyed.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.errors import AssayError, DamagedFile, LedgerError, RegistryError
from core.project import Project
from registry.ledger.audit import LOOK, find_doubts, read_all_keys
from registry.ledger.heads import (
    HeadRecord,
    RemoteRecord,
    SealedRecord,
    keep_record,
    read_elsewhere,
    read_memory,
    read_record,
    record_file,
    trusted_keys,
    write_elsewhere,
    write_record,
)
from registry.ledger.keys import load_key
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.ledger.witness import Witness, witness
from registry.mlflow.pages import find_lost_pages, mark_revoked, read_sealed_pages

if TYPE_CHECKING:
    from registry.mlflow.store import Store

# Pages and witness are asked over a network, and a cut ledger is no matter of seconds.
SECONDS_BETWEEN_COMPARISONS = 60.0
# A brake waits no longer for the page that repeats it.
SECONDS_FOR_A_PAGE = 20.0


def tell_witness(home: Path, ledger_state: LedgerState) -> tuple[str, ...]:
    """Tell the witness how far the ledger goes, if there is one; a sentence where that fails."""
    try:
        configured = witness()
        sealed = read_record(home)
        if configured is None or sealed is None:
            return ()
        # A record of another head is from before or after this state: the next round tells it.
        if sealed.record.head == ledger_state.head:
            configured.tell(sealed)
    except (LedgerError, DamagedFile, OSError) as error:
        return (str(error),)
    return ()


def remember_elsewhere(
    project: Project,
    ledger: Ledger,
    ledger_state: LedgerState,
    model: str,
    version: str,
) -> None:
    """Write a revocation at once on the version's page and at the witness.

    Where either is unreachable now, the controller writes it later.
    """
    set_library_environment()
    tell_witness(project.home, ledger_state)

    def mark_page() -> None:
        from operations.ledger_audit import is_mlflow_there
        from registry.mlflow.home_store import open_store

        # The revocation holds, and the controller marks the page later.
        with suppress(Exception):
            if is_mlflow_there(project):
                mark_revoked(open_store(project), ledger, ledger_state, model, version)

    # In a thread: an MLflow that takes connections and does not answer must hold up no brake.
    marking = threading.Thread(target=mark_page, name="mark revoked", daemon=True)
    marking.start()
    # Whoever revokes waits this long for the page, so that it is usually marked at once.
    marking.join(SECONDS_FOR_A_PAGE)


@dataclass
class HeadComparison:
    """What the controller does about heads, round by round."""

    home: Path
    _last_comparison: dict[str, float] = field(default_factory=dict)
    """When witness and pages were last asked, on the monotonic clock."""
    _page_problems: tuple[str, ...] = ()
    _witness_problems: tuple[str, ...] = ()
    _witness: Witness | None = None
    _witnessed_hash: str | None = None
    """Hash of the head that the witness was told last."""

    def repair_record(
        self, ledger: Ledger, ledger_state: LedgerState
    ) -> tuple[str, ...]:
        """Keep this home's own head record up to date, and replace one that is missing or damaged.

        It is replaced only where the endpoint's memory vouches for the ledger: otherwise whoever
        deletes the record and cuts the ledger would get a record of the cut one.
        """
        key = load_key(self.home)
        keep_record(self.home, ledger_state, ledger_state, key)
        try:
            sealed = read_record(self.home)
        except DamagedFile:
            sealed = None
        trusted = trusted_keys(self.home, ledger_state)
        if sealed is not None and sealed.is_sealed_by(trusted):
            return ()
        # Nobody else in this home confirms that the ledger is complete.
        if not _memory_vouches(self.home, ledger, ledger_state):
            return ()
        write_record(self.home, ledger_state, key)
        sentence = (
            f"The head record {record_file(self.home)} was missing or not what was written. "
            f"It was replaced. {LOOK}"
        )
        return (sentence,)

    def remember_own(self, verified: LedgerState | None) -> None:
        """Keep what this controller verified before somebody set the ledger back.

        The files that remember it may have been set back, too: then no other process knows it.
        """
        if verified is None:
            return
        sealed = SealedRecord.sign(HeadRecord.of(verified), load_key(self.home))
        # Each by itself: of one place only the furthest is kept, be it accepted as lost.
        where = f"the controller, which read entry {sealed.generation},"
        self._keep((RemoteRecord(where=where, sealed=sealed),))

    def compare(
        self,
        open_pages: Callable[[], "Store"],
        ledger: Ledger,
        ledger_state: LedgerState,
    ) -> tuple[str, ...]:
        """Read pages and witness, and say what does not agree with the ledger.

        They are asked over a network, so at most once a minute.
        """
        trusted = trusted_keys(self.home, ledger_state)
        if self._is_due("witness"):
            self._ask_witness(trusted)
        if self._is_due("pages"):
            try:
                self._read_pages(open_pages(), ledger, ledger_state, trusted)
            except RegistryError:
                # Other duties report that MLflow is away; the next round looks again.
                del self._last_comparison["pages"]
        return (
            *find_doubts(self.home, ledger, ledger_state),
            *self._page_problems,
            *self._witness_problems,
        )

    def tell(self, ledger_state: LedgerState) -> tuple[str, ...]:
        """Tell the witness each head once; a sentence where that fails."""
        if ledger_state.head.hash == self._witnessed_hash:
            return ()
        problems = tell_witness(self.home, ledger_state)
        if not problems:
            self._witnessed_hash = ledger_state.head.hash
        return problems

    def _is_due(self, source: str) -> bool:
        now = time.monotonic()
        last = self._last_comparison.get(source)
        if last is not None and now - last < SECONDS_BETWEEN_COMPARISONS:
            return False
        self._last_comparison[source] = now
        return True

    def _read_pages(
        self,
        store: "Store",
        ledger: Ledger,
        ledger_state: LedgerState,
        trusted: frozenset[str],
    ) -> None:
        # What a revoked key sealed is old, and no forgery.
        records, problems = read_sealed_pages(store, trusted, read_all_keys(ledger))
        self._keep(records)
        lost = find_lost_pages(store, ledger, ledger_state)
        self._page_problems = (*problems, *lost)

    def _ask_witness(self, trusted: frozenset[str]) -> None:
        try:
            # Kept open, since a connection may be behind it.
            self._witness = self._witness or witness()
            if self._witness is None:
                self._witness_problems = ()
                return
            name = self._witness.name
            sealed = self._witness.read_furthest(trusted)
        except LedgerError as error:
            self._witness_problems = (str(error),)
            return
        generation = 0 if sealed is None else sealed.record.head.generation
        self._witness_problems = self._describe_lost_memory(name, generation)
        if sealed is not None:
            self._keep((RemoteRecord(where=name, sealed=sealed),))

    def _describe_lost_memory(self, name: str, generation: int) -> tuple[str, ...]:
        """Say where the witness remembers less than it did."""
        for record in self._remembered():
            earlier = record.sealed.record.head.generation
            if record.where == name and generation < earlier:
                sentence = (
                    f"{name} remembers entry {generation} of the ledger, and it knew entry "
                    f"{earlier}. Find out who changed it."
                )
                return (sentence,)
        return ()

    def _remembered(self) -> tuple[RemoteRecord, ...]:
        try:
            return read_elsewhere(self.home)
        except DamagedFile:
            return ()

    def _keep(self, records: tuple[RemoteRecord, ...]) -> None:
        """Keep the furthest head of each place.

        What an edited or deleted page said before must not be lost with it.
        """
        remembered = self._remembered()
        furthest = {record.where: record for record in remembered}
        for record in records:
            place = record.where
            known = furthest.get(place)
            if known is None or _generation(known) <= _generation(record):
                furthest[place] = record
        # In a fixed order, so that an unchanged memory is not written again.
        updated = tuple(furthest[where] for where in sorted(furthest))
        if updated != remembered:
            write_elsewhere(self.home, updated)


def _generation(record: RemoteRecord) -> int:
    return record.sealed.record.head.generation


def _memory_vouches(home: Path, ledger: Ledger, ledger_state: LedgerState) -> bool:
    """Tell whether the endpoint's signed memory is of this ledger, or of an earlier state of it."""
    try:
        memory = read_memory(home)
        if memory is None or memory.seal is None:
            return False
        return ledger.follow(memory.standing).head == ledger_state.head
    except AssayError:
        return False
