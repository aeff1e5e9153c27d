"""What others remember of the ledger: read before the ledger is obeyed.

A ledger that lacks what one of them has seen is not obeyed, and what one of them knows as revoked
is not loaded, whatever the ledger says of it.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.errors import BrokenLedger, DamagedFile, LedgerError
from registry.ledger.audit import (
    LOOK,
    KnownHead,
    check_known,
    known_heads,
    lost_heads,
    unproven,
    with_revocations,
)
from registry.ledger.heads import (
    is_new,
    ledger_keys,
    read_record,
    record_file,
    trusted_keys,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, ModelState
from registry.ledger.witness import Witness, witness

SECONDS_BETWEEN_WITNESSES = 60.0


@dataclass(frozen=True)
class Revocations:
    """What is known as revoked, by whoever remembers it."""

    versions: frozenset[tuple[str, str]] = frozenset()
    adapters: frozenset[str] = frozenset()

    @classmethod
    def known_to(cls, heads: Iterable[KnownHead]) -> "Revocations":
        """All that any of them remembers."""
        versions = {
            (model, version)
            for head in heads
            for model, numbers in head.revoked.items()
            for version in numbers
        }
        return cls(
            frozenset(versions),
            frozenset(adapter for head in heads for adapter in head.revoked_adapters),
        )

    def name(self, model: str, version: str, adapter_sha256: str | None) -> bool:
        """That version, or those bytes under any name."""
        return (model, version) in self.versions or adapter_sha256 in self.adapters


class Outside:
    """What the stores of this home remember, and what is wrong with them."""

    def __init__(self, home: Path) -> None:
        self.revocations = Revocations()
        self._faults: tuple[str, ...] = ()
        self._strange: tuple[str, ...] = ()
        self._home = home
        self._witness: Witness | None = None
        self._asked_at: float | None = None
        self._witnessed: tuple[KnownHead, ...] = ()
        self._silent: tuple[str, ...] = ()
        self._fits: set[tuple[int, str]] = set()

    def read(
        self, ledger_state: LedgerState | None, *, has_seen_record: bool
    ) -> tuple[KnownHead, ...]:
        """Every head that is known from elsewhere. What is revoked stays known, also where its store goes away."""
        known, unread = known_heads(self._home, ledger_state)
        known += self._ask_witness(ledger_state)
        self._learn(known)
        gone = has_seen_record and not record_file(self._home).exists()
        lost = (
            (
                f"The head record {record_file(self._home)} is gone. Find out who removed it. {LOOK}",
            )
            if gone
            else ()
        )
        self._faults = (*lost, *(f"{note}. {LOOK}" for note in unread))
        return known

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong with the stores, and which of them does not count."""
        return (*self._faults, *self._strange, *self._silent)

    def _ask_witness(self, ledger_state: LedgerState | None) -> tuple[KnownHead, ...]:
        """What the witness said last. Before the ledger's keys are known nothing that it says counts.

        It is waited for once, after a start; later it is asked beside the looks, since a brake must not wait for it.
        """
        now = time.monotonic()
        if ledger_state is None or (
            self._asked_at is not None
            and now - self._asked_at < SECONDS_BETWEEN_WITNESSES
        ):
            return self._witnessed
        is_first, self._asked_at = self._asked_at is None, now
        asking = threading.Thread(
            target=self._hear_witness,
            args=(ledger_state,),
            name="hear witness",
            daemon=True,
        )
        asking.start()
        if is_first:
            asking.join()
        return self._witnessed

    def _hear_witness(self, ledger_state: LedgerState) -> None:
        try:
            self._witness = self._witness or witness()
            found = (
                None
                if self._witness is None
                else self._witness.furthest(trusted_keys(self._home, ledger_state))
            )
        except LedgerError as error:
            self._silent = (str(error),)
            return
        self._silent = ()
        if self._witness is not None and found is not None:
            self._witnessed = (KnownHead.of(found.record, self._witness.name),)

    def check(
        self,
        ledger: Ledger,
        found: LedgerState,
        known: tuple[KnownHead, ...],
        *,
        has_memory: bool,
    ) -> None:
        """`BrokenLedger` where it lacks what others have seen, or where nothing says that it is whole."""
        new = [each for each in known if (each.generation, each.hash) not in self._fits]
        lost = lost_heads(ledger, found, new)
        proven = [
            head
            for each in lost
            if (head := with_revocations(each, ledger)) is not None
        ]
        self._learn(proven)
        self._strange = tuple(
            unproven(each) for each in lost if with_revocations(each, ledger) is None
        )
        check_known(ledger, found, lost)
        self._fits |= {(each.generation, each.hash) for each in new if each not in lost}
        if not has_memory and not self._is_vouched(found):
            raise BrokenLedger(
                f"The endpoint remembers nothing, and no head record confirms that the ledger is whole up to entry {found.head.generation}."
                f" {LOOK}"
            )

    def _learn(self, known: Iterable[KnownHead]) -> None:
        more = Revocations.known_to(tuple(known))
        here = self.revocations
        self.revocations = Revocations(
            here.versions | more.versions, here.adapters | more.adapters
        )

    def _is_vouched(self, found: LedgerState) -> bool:
        """A ledger that never had anything served is new; any other needs a record that one of its own keys sealed."""
        try:
            sealed = read_record(self._home)
        except (DamagedFile, LedgerError, OSError):
            return False
        if sealed is None:
            return is_new(self._home, found)
        return (
            sealed.is_by(ledger_keys(found))
            and sealed.record.head.hash not in found.accepted
        )


def without_revoked(ledger_state: LedgerState, revocations: Revocations) -> LedgerState:
    """How things stand where everything that is known as revoked is, also what the ledger does not revoke."""
    models = {
        name: _without(name, model, revocations)
        for name, model in ledger_state.models.items()
    }
    return (
        ledger_state
        if models == ledger_state.models
        else ledger_state.model_copy(update={"models": models})
    )


def _without(name: str, model: ModelState, revocations: Revocations) -> ModelState:
    held = (
        *model.served,
        *model.once_served,
        *((model.pending,) if model.pending else ()),
    )
    versions = {
        each.release.version
        for each in held
        if revocations.name(name, each.release.version, each.release.spec.adapter_sha256)
    } - model.revoked  # fmt: skip
    if not versions:
        return model
    served = tuple(
        each for each in model.served if each.release.version not in versions
    )
    pending = (
        None
        if model.pending is not None and model.pending.release.version in versions
        else model.pending
    )
    return model.model_copy(
        update={
            "served": served,
            "pending": pending,
            "revoked": model.revoked | versions,
            "serves_base": model.serves_base or (bool(model.served) and not served),
        }
    )


def not_in_ledger(ledger_state: LedgerState, obeyed: LedgerState) -> tuple[str, ...]:
    """A sentence for each version that is not loaded since others know it as revoked, and the ledger does not."""
    return tuple(
        f"Version {version} of {name} is known as revoked from outside the ledger, and the ledger does not say so: it is not loaded."
        f" Restore the ledger, or revoke it again. {LOOK}"
        for name, model in obeyed.models.items()
        for version in sorted(model.revoked - ledger_state.model(name).revoked)
    )
