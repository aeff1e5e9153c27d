"""Who else remembers the ledger: the controller keeps them told, and compares what they remember with it.

Version pages carry a sealed head and, where the version is revoked, that it is. A page is open to
whoever may edit MLflow, so only what a key of the ledger sealed keeps the ledger from being obeyed.
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
from registry.ledger.audit import LOOK, doubts, keys_ever
from registry.ledger.heads import (
    Told,
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
from registry.mlflow.pages import lost_by_pages, mark_revoked, told_by_pages

if TYPE_CHECKING:
    from registry.mlflow.store import Store

SECONDS_BETWEEN_COMPARISONS = 60.0
SECONDS_FOR_A_PAGE = 20.0


def tell_witness(home: Path, ledger_state: LedgerState) -> tuple[str, ...]:
    """Tell it how far the ledger goes, if there is one; a sentence where it does not take it."""
    try:
        there = witness()
        sealed = read_record(home)
        if (
            there is not None
            and sealed is not None
            and sealed.record.head == ledger_state.head
        ):
            there.tell(sealed)
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
    """After a revocation, on the spot: its page and the witness. What is away now is told by the controller later."""
    set_library_environment()
    tell_witness(project.home, ledger_state)

    def mark() -> None:
        from operations.ledger_audit import is_mlflow_there
        from registry.mlflow.home_store import open_store

        with suppress(
            Exception
        ):  # the revocation stands, and the controller marks the page later
            if is_mlflow_there(project):
                mark_revoked(open_store(project), ledger, ledger_state, model, version)

    # In a thread: an MLflow that takes connections and does not answer must hold up no brake.
    marking = threading.Thread(target=mark, name="mark revoked", daemon=True)
    marking.start()
    marking.join(SECONDS_FOR_A_PAGE)


@dataclass
class Comparison:
    """What the controller does about heads, round by round."""

    home: Path
    _looked_at: dict[str, float] = field(default_factory=dict)
    _edited: tuple[str, ...] = ()
    _silent: tuple[str, ...] = ()
    _witness: Witness | None = None
    _is_told: set[str] = field(default_factory=set)

    def mended_record(
        self, ledger: Ledger, ledger_state: LedgerState
    ) -> tuple[str, ...]:
        """Keep this home's own head record; where it is gone or damaged, the endpoint's memory must vouch for the ledger."""
        key = load_key(self.home)
        keep_record(self.home, ledger_state, ledger_state, key)
        try:
            sealed = read_record(self.home)
        except DamagedFile:
            sealed = None
        if (
            sealed is not None and sealed.is_by(trusted_keys(self.home, ledger_state))
        ) or not _memory_vouches(self.home, ledger, ledger_state):
            return ()
        write_record(self.home, ledger_state, key)
        return (
            f"The head record {record_file(self.home)} was gone or not what was written. It is written anew. {LOOK}",
        )

    def compare(
        self,
        open_pages: Callable[[], "Store"],
        ledger: Ledger,
        ledger_state: LedgerState,
    ) -> tuple[str, ...]:
        """Read pages and witness, and say what does not agree; at most once a minute, since both are asked over a network."""
        trusted = trusted_keys(self.home, ledger_state)
        if self._is_due("witness"):
            told, self._silent = self._told_by_witness(trusted)
            self._keep(told)
        if self._is_due("pages"):
            try:
                store = open_pages()
                told, wrong = told_by_pages(store, trusted, keys_ever(ledger))
                self._keep(told)
                self._edited = (*wrong, *lost_by_pages(store, ledger, ledger_state))
            except RegistryError:
                del self._looked_at[
                    "pages"
                ]  # MLflow is away, which other duties say: the next round looks again
        return (*doubts(self.home, ledger, ledger_state), *self._edited, *self._silent)

    def _is_due(self, what: str) -> bool:
        now, before = time.monotonic(), self._looked_at.get(what)
        if before is not None and now - before < SECONDS_BETWEEN_COMPARISONS:
            return False
        self._looked_at[what] = now
        return True

    def tell(self, ledger_state: LedgerState) -> tuple[str, ...]:
        """Tell the witness each head once."""
        if ledger_state.head.hash in self._is_told:
            return ()
        wrong = tell_witness(self.home, ledger_state)
        if not wrong:
            self._is_told = {ledger_state.head.hash}
        return wrong

    def _told_by_witness(
        self, trusted: frozenset[str]
    ) -> tuple[tuple[Told, ...], tuple[str, ...]]:
        try:
            self._witness = self._witness or witness()
            if self._witness is None:
                return (), ()
            sealed, where = self._witness.furthest(trusted), self._witness.name
        except LedgerError as error:
            return (), (str(error),)
        before = next(
            (
                each.sealed.record.head
                for each in self._remembered()
                if each.where == where
            ),
            None,
        )
        reached = 0 if sealed is None else sealed.record.head.generation
        forgot: tuple[str, ...] = ()
        if before is not None and reached < before.generation:
            forgot = (
                f"{where} remembers entry {reached} of the ledger, and it knew entry {before.generation}. Find out who changed it.",
            )
        return () if sealed is None else (Told(where=where, sealed=sealed),), forgot

    def _remembered(self) -> tuple[Told, ...]:
        try:
            return read_elsewhere(self.home)
        except DamagedFile:
            return ()

    def _keep(self, told: tuple[Told, ...]) -> None:
        """Never a step back: a page that was edited or deleted must not take with it what it said."""
        before = self._remembered()
        kept = {each.where: each for each in before}
        for each in told:
            there = kept.get(each.where)
            if (
                there is None
                or there.sealed.record.head.generation
                <= each.sealed.record.head.generation
            ):
                kept[each.where] = each
        after = tuple(kept[where] for where in sorted(kept))
        if after != before:
            write_elsewhere(self.home, after)


def _memory_vouches(home: Path, ledger: Ledger, ledger_state: LedgerState) -> bool:
    """The endpoint's memory is signed, and the ledger goes on from it."""
    try:
        memory = read_memory(home)
        if memory is None or memory.seal is None:
            return False
        return ledger.follow(memory.standing).head == ledger_state.head
    except AssayError:
        return False
