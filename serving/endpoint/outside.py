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
    add_revocations,
    check_known,
    describe_foreign_export,
    find_lost_heads,
    known_heads,
)
from registry.ledger.heads import (
    is_new,
    ledger_keys,
    read_record,
    record_file,
    trusted_keys,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, ModelState, RecordedRelease
from registry.ledger.witness import Witness, witness

SECONDS_BETWEEN_WITNESSES = 60.0


@dataclass(frozen=True)
class Revocations:
    """What is known as revoked, by whoever remembers it."""

    # Names of models and numbers of versions.
    versions: frozenset[tuple[str, str]] = frozenset()
    # Digests of adapters' weights.
    adapters: frozenset[str] = frozenset()

    @classmethod
    def known_to(cls, heads: Iterable[KnownHead]) -> "Revocations":
        """All that any of them remembers."""
        versions: set[tuple[str, str]] = set()
        adapters: set[str] = set()
        for head in heads:
            adapters.update(head.revoked_adapters)
            for model, numbers in head.revoked.items():
                versions.update((model, number) for number in numbers)
        return cls(frozenset(versions), frozenset(adapters))

    def cover(self, release: RecordedRelease, model: str) -> bool:
        """Whether that version is revoked, or its bytes under any name."""
        version = release.release.version
        if (model, version) in self.versions:
            return True
        return release.release.spec.adapter_sha256 in self.adapters

    def merge(self, other: "Revocations") -> "Revocations":
        """What either of them knows."""
        return Revocations(
            self.versions | other.versions,
            self.adapters | other.adapters,
        )


class OutsideHeads:
    """The heads that the stores of this home remember, and what is wrong with the stores."""

    def __init__(self, home: Path) -> None:
        self.revocations = Revocations()
        self._faults: tuple[str, ...] = ()
        self._unproven: tuple[str, ...] = ()
        self._witness_fault: tuple[str, ...] = ()
        self._home = home
        self._witness: Witness | None = None
        self._asked_at: float | None = None
        self._witnessed: tuple[KnownHead, ...] = ()
        # Heads that the ledger holds. A ledger that is followed keeps them: they are compared once.
        self._fits: set[tuple[int, str]] = set()

    def read(
        self, ledger_state: LedgerState | None, *, has_seen_record: bool
    ) -> tuple[KnownHead, ...]:
        """Every head that is known from elsewhere.

        What is revoked stays known, also where the store that knew it is lost.
        """
        heads, unread = known_heads(self._home, ledger_state)
        heads += self._ask_witness(ledger_state)
        self._learn(heads)
        faults: list[str] = []
        record = record_file(self._home)
        if has_seen_record and not record.exists():
            faults.append(
                f"The head record {record} is missing. Find out who removed it. {LOOK}"
            )
        faults += [f"{note}. {LOOK}" for note in unread]
        self._faults = tuple(faults)
        return heads

    @property
    def alarms(self) -> tuple[str, ...]:
        """What is wrong with the stores, and which of them does not count."""
        of_stores = self._faults + self._unproven
        return of_stores + self._witness_fault

    def check(
        self,
        ledger: Ledger,
        state: LedgerState,
        heads: tuple[KnownHead, ...],
        *,
        has_memory: bool,
    ) -> None:
        """Return only if the ledger holds what others have seen.

        `BrokenLedger` where it does not, or where nobody confirms that it is whole.
        """
        new = [head for head in heads if _head_key(head) not in self._fits]
        lost = find_lost_heads(ledger, state, new)
        proven: list[KnownHead] = []
        sentences: list[str] = []
        for head in lost:
            head_with_revocations = add_revocations(head, ledger)
            if head_with_revocations is None:
                sentences.append(describe_foreign_export(head))
            else:
                proven.append(head_with_revocations)
        # Before the check: what a lost head revoked must not be loaded, whatever the check says.
        self._learn(proven)
        self._unproven = tuple(sentences)
        check_known(ledger, state, lost)
        self._fits |= {_head_key(head) for head in new if head not in lost}
        if not has_memory and not self._is_confirmed(state):
            raise BrokenLedger(
                "The endpoint remembers nothing, and no head record confirms that the ledger "
                f"is whole up to entry {state.head.generation}. {LOOK}"
            )

    def _ask_witness(self, ledger_state: LedgerState | None) -> tuple[KnownHead, ...]:
        """What the witness said last. Before the ledger's keys are known its word counts nothing.

        It is waited for once, after a start. Later it is asked in the background, since a
        revocation must not wait for it.
        """
        if ledger_state is None:
            return self._witnessed
        now = time.monotonic()
        is_first = self._asked_at is None
        if self._asked_at is not None:
            age = now - self._asked_at
            if age < SECONDS_BETWEEN_WITNESSES:
                return self._witnessed
        self._asked_at = now
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
            sealed = None
            if self._witness is not None:
                keys = trusted_keys(self._home, ledger_state)
                sealed = self._witness.read_furthest(keys)
        except LedgerError as error:
            self._witness_fault = (str(error),)
            return
        self._witness_fault = ()
        if self._witness is not None and sealed is not None:
            head = KnownHead.of(sealed.record, self._witness.name)
            self._witnessed = (head,)

    def _learn(self, heads: Iterable[KnownHead]) -> None:
        # Nothing is ever taken out: a store that is lost must not bring a version back.
        learned = Revocations.known_to(heads)
        self.revocations = self.revocations.merge(learned)

    def _is_confirmed(self, state: LedgerState) -> bool:
        """Whether the ledger is new, or a record that one of its own keys sealed confirms it.

        A ledger is new where no version was ever served by it.
        """
        try:
            sealed = read_record(self._home)
        except (DamagedFile, LedgerError, OSError):
            return False
        if sealed is None:
            return is_new(self._home, state)
        is_own = sealed.is_sealed_by(ledger_keys(state))
        return is_own and sealed.record.head.hash not in state.accepted


def drop_revoked(ledger_state: LedgerState, revocations: Revocations) -> LedgerState:
    """The state in which everything that is known as revoked is revoked.

    Also what the ledger itself does not revoke.
    """
    models = {
        name: _drop_revoked_of(name, model, revocations)
        for name, model in ledger_state.models.items()
    }
    if models == ledger_state.models:
        return ledger_state
    return ledger_state.model_copy(update={"models": models})


def _drop_revoked_of(
    name: str, model: ModelState, revocations: Revocations
) -> ModelState:
    pending = (model.pending,) if model.pending else ()
    releases = (*model.served, *model.once_served, *pending)
    covered = [release for release in releases if revocations.cover(release, name)]
    versions = {release.release.version for release in covered} - model.revoked
    if not versions:
        return model
    served = _without_versions(model.served, versions)
    still_pending = _without_versions(pending, versions)
    # Where all that served is revoked, the base answers.
    has_lost_all = bool(model.served) and not served
    return model.model_copy(
        update={
            "served": served,
            "pending": still_pending[0] if still_pending else None,
            "revoked": model.revoked | versions,
            "serves_base": model.serves_base or has_lost_all,
        }
    )


def _without_versions(
    releases: tuple[RecordedRelease, ...], versions: set[str]
) -> tuple[RecordedRelease, ...]:
    return tuple(
        release for release in releases if release.release.version not in versions
    )


def describe_unrecorded_revocations(
    ledger_state: LedgerState, obeyed: LedgerState
) -> tuple[str, ...]:
    """A sentence for each version that others know as revoked, and the ledger does not."""
    sentences: list[str] = []
    for name, model in obeyed.models.items():
        recorded = ledger_state.model(name).revoked
        sentences += [
            f"Version {version} of {name} is known as revoked from outside the ledger, "
            "and the ledger does not say so: it is not loaded. "
            f"Restore the ledger, or revoke it again. {LOOK}"
            for version in sorted(model.revoked - recorded)
        ]
    return tuple(sentences)


def _head_key(head: KnownHead) -> tuple[int, str]:
    return head.generation, head.hash
