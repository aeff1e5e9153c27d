"""What is kept of a ledger outside of it: how far it went at least, and what was revoked by then.

The head record (`keys/head.json`) is sealed by whoever writes the ledger, the endpoint's memory by
the endpoint. So a ledger whose end was cut off is noticed, and what was revoked stays revoked.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self

from pydantic import Field, TypeAdapter, ValidationError

from core.errors import DamagedFile, LedgerError
from core.locks import exclusive, head_lock
from core.private_file import write_private
from core.value import Value, first_problem
from registry.ledger.entries import Head, canonical_time
from registry.ledger.keys import (
    Seal,
    SigningKey,
    create_endpoint_key,
    endpoint_key_file,
    load_endpoint_key,
    load_key,
    public_bytes,
    seal,
)
from registry.ledger.state import LedgerState

# A brake writes entries: it must not wait long for a record that is only a memory of them.
SECONDS_FOR_THE_LOCK = 1.0


class RevocationSource(Protocol):
    """Whatever knows versions and adapters as revoked."""

    @property
    def revoked(self) -> dict[str, tuple[str, ...]]:
        """Versions, by model."""
        ...

    @property
    def revoked_adapters(self) -> tuple[str, ...]:
        """Digests of adapters."""
        ...


class HeadRecord(Value):
    """How far a ledger goes, and what is revoked by then."""

    head: Head
    revoked: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Versions that never serve again, by model."""
    revoked_adapters: tuple[str, ...] = ()

    @classmethod
    def of(cls, ledger_state: LedgerState) -> Self:
        """The record of a ledger in that state."""
        models = ledger_state.models.items()
        revoked = {
            name: tuple(sorted(model.revoked))
            for name, model in models
            if model.revoked
        }
        adapters = tuple(sorted(ledger_state.revoked_adapters))
        return cls(
            head=ledger_state.head,
            revoked=revoked,
            revoked_adapters=adapters,
        )

    def with_revoked(self, others: Iterable[RevocationSource]) -> Self:
        """The same head, and besides what others know as revoked, which is never forgotten."""
        merged: defaultdict[str, set[str]] = defaultdict(set)
        adapters: set[str] = set()
        sources: tuple[RevocationSource, ...] = (self, *others)
        for source in sources:
            adapters.update(source.revoked_adapters)
            for name, versions in source.revoked.items():
                merged[name].update(versions)
        # In order: the record is sealed, and equal records are to be equal files.
        revoked = {
            name: tuple(sorted(versions)) for name, versions in sorted(merged.items())
        }
        changes = {
            "revoked": revoked,
            "revoked_adapters": tuple(sorted(adapters)),
        }
        return self.model_copy(update=changes)

    @classmethod
    def about(cls, ledger_state: LedgerState, model: str, version: str) -> Self:
        """The record for the page of one version, which is short: of what is revoked, only that."""
        if version not in ledger_state.model(model).revoked:
            return cls(head=ledger_state.head)
        judged = {
            verdict.adapter_sha256
            for verdict in ledger_state.judged.values()
            if (verdict.model, verdict.version) == (model, version)
        }
        released = {
            recorded.release.spec.adapter_sha256
            for recorded in ledger_state.model(model).once_served
            if recorded.release.version == version
        }
        revoked_adapters = ledger_state.revoked_adapters
        adapters = {
            sha256 for sha256 in judged | released if sha256 in revoked_adapters
        }
        return cls(
            head=ledger_state.head,
            revoked={model: (version,)},
            revoked_adapters=tuple(sorted(adapters)),
        )


class SealedRecord(Value):
    """A head record, and the seal of a controller's key."""

    record: HeadRecord
    seal: Seal

    @classmethod
    def sign(cls, record: HeadRecord, key: SigningKey) -> Self:
        """The record, sealed with that key."""
        digest = _digest("head record", record)
        signed = seal(digest, key.private)
        return cls(record=record, seal=signed)

    @property
    def generation(self) -> int:
        """How far the ledger went when it was sealed."""
        return self.record.head.generation

    @property
    def is_intact(self) -> bool:
        """Whether the key that it names sealed it, whoever has that key."""
        own = frozenset({self.seal.public})
        return self.is_sealed_by(own)

    def is_sealed_by(self, publics: frozenset[str]) -> bool:
        """Whether one of those public keys sealed it."""
        seal = self.seal
        if seal.public not in publics:
            return False
        digest = _digest("head record", self.record)
        return seal.is_of(digest)


class RemoteRecord(Value):
    """A sealed record that was read outside of the home, and where."""

    where: str
    sealed: SealedRecord


class Memory(Value):
    """What the endpoint has verified and obeyed, kept on its own disk."""

    standing: LedgerState
    has_seen_record: bool = False
    """There was a head record by then: where it is missing later, somebody removed it."""
    seal: Seal | None = None
    """None: a version of Assay that sealed nothing wrote it."""

    @property
    def digest(self) -> str:
        """What the endpoint's key signs."""
        unsealed = self.model_copy(update={"seal": None})
        return _digest("endpoint memory", unsealed)


# One adapter for the module: building it costs more than parsing with it.
_RECORDS = TypeAdapter(tuple[RemoteRecord, ...])


def record_file(home: Path) -> Path:
    """The file in which whoever writes the ledger keeps its head."""
    return home / "keys" / "head.json"


def elsewhere_file(home: Path) -> Path:
    """The file in which the controller keeps what version pages and the witness remember."""
    return home / "keys" / "elsewhere.json"


def memory_file(home: Path) -> Path:
    """The file in which the endpoint keeps what it obeyed."""
    return home / "endpoint" / "standing.json"


def read_record(home: Path) -> SealedRecord | None:
    """The head record, whoever sealed it; None where there is none.

    `DamagedFile` where it is no record.
    """
    path = record_file(home)
    # A home from before there were head records has none.
    if not path.exists():
        return None
    return SealedRecord.read(path)


def keep_record(
    home: Path, previous: LedgerState, ledger_state: LedgerState, key: SigningKey
) -> None:
    """Keep how far the ledger goes now, where that is a step forward.

    `previous` is the state before its last entry, which may have revoked a key. A record that does
    not fit, or that is missing, is not replaced: that is for an alarm and for a person. A failure
    here fails nothing else, since the entry is written.
    """
    # Two writers at once could otherwise put the older head over the newer one.
    try:
        with exclusive(head_lock(home), wait=SECONDS_FOR_THE_LOCK):
            sealed = read_record(home)
            # Also the key that the last entry revoked: it sealed the record that is there.
            trusted = trusted_keys(home, ledger_state) | ledger_keys(previous)
            if _may_replace(home, sealed, ledger_state, trusted):
                also = () if sealed is None else (sealed.record,)
                write_record(home, ledger_state, key, also=also)
    # A lock that stays busy is a TimeoutError, which is an OSError.
    except (OSError, DamagedFile, LedgerError):
        return


def write_record(
    home: Path,
    ledger_state: LedgerState,
    key: SigningKey,
    *,
    also: Iterable[RevocationSource] = (),
) -> None:
    """Write the head record over whatever is there.

    `also` know as revoked what the ledger may have lost.
    """
    record = HeadRecord.of(ledger_state).with_revoked(also)
    sealed = SealedRecord.sign(record, key)
    text = sealed.model_dump_json(indent=1)
    path = record_file(home)
    write_private(path, text + "\n")


def _may_replace(
    home: Path,
    sealed: SealedRecord | None,
    ledger_state: LedgerState,
    trusted: frozenset[str],
) -> bool:
    if sealed is None:
        return may_begin_record(home, ledger_state)
    # Somebody else put it there: keep it as evidence.
    if not sealed.is_sealed_by(trusted):
        return False
    head = sealed.record.head
    is_behind = head.generation < ledger_state.head.generation
    # A person said that the ledger counts although it lacks that head.
    is_accepted_loss = head.hash in ledger_state.accepted
    return is_behind or is_accepted_loss


def may_begin_record(home: Path, ledger_state: LedgerState) -> bool:
    """Whether there never was a head record here.

    The endpoint remembers none, or nothing ever served.
    """
    memory = read_memory(home)
    if memory is None:
        return is_new(home, ledger_state)
    return not memory.has_seen_record


def is_new(home: Path, ledger_state: LedgerState) -> bool:
    """Whether nothing of that ledger ever served, and no endpoint of this home has a key."""
    models = ledger_state.models.values()
    if any(model.once_served for model in models):
        return False
    return not endpoint_key_file(home).exists()


def trusted_keys(home: Path, ledger_state: LedgerState | None) -> frozenset[str]:
    """Whose seals count: the controller's keys that the ledger trusts, and this machine's own."""
    trusted = ledger_keys(ledger_state)
    # Whoever only reads has no key, or may not read it.
    with suppress(LedgerError):
        trusted |= {load_key(home).public.public}
    return trusted


def ledger_keys(ledger_state: LedgerState | None) -> frozenset[str]:
    """The controller's keys that the ledger trusts."""
    if ledger_state is None:
        return frozenset()
    return frozenset(key.public for key in ledger_state.controller_keys)


def read_memory(home: Path) -> Memory | None:
    """What the endpoint remembers; None where there is no memory.

    `DamagedFile` where it is not what the endpoint's key signed.
    """
    path = memory_file(home)
    if not path.is_file():
        return None
    memory = _parse_memory(path)
    key_file = endpoint_key_file(home)
    has_key = key_file.exists()
    # An unsigned memory counts only in a home in which no endpoint ever had a key: a version of
    # Assay that sealed nothing wrote it.
    if memory.seal is None and not has_key:
        return memory
    if memory.seal is None:
        raise _foreign_memory(path, "has no signature")
    if not has_key:
        fact = f"is signed, and {key_file} is missing"
        raise _foreign_memory(path, fact)
    # The public key inside the file proves nothing: anybody can seal with a key of his own.
    public = public_bytes(load_endpoint_key(home)).hex()
    if memory.seal.public != public or not memory.seal.is_of(memory.digest):
        raise DamagedFile(
            f"The endpoint's memory {path} is not what the endpoint signed: it was edited."
        )
    return memory


def _foreign_memory(path: Path, fact: str) -> DamagedFile:
    return DamagedFile(
        f"The endpoint's memory {path} {fact}: it was edited or put there by hand."
    )


def _parse_memory(path: Path) -> Memory:
    try:
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and "standing" in document:
            return Memory.model_validate_json(path.read_bytes())
        # Before there were seals, the state alone was the memory.
        state = LedgerState.model_validate_json(path.read_bytes())
        return Memory(standing=state)
    except ValidationError as error:
        raise DamagedFile(
            f"The endpoint's memory {path} was damaged ({first_problem(error)})."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(
            f"The endpoint's memory {path} was damaged: it is not JSON."
        ) from error


def write_memory(home: Path, memory: Memory) -> None:
    """Seal and write the endpoint's memory, whole or not at all."""
    key = create_endpoint_key(home)
    new_seal = seal(memory.digest, key)
    sealed = memory.model_copy(update={"seal": new_seal})
    sealed.write(memory_file(home))


def read_elsewhere(home: Path) -> tuple[RemoteRecord, ...]:
    """What the controller read on version pages and of the witness.

    `DamagedFile` where it does not parse.
    """
    path = elsewhere_file(home)
    if not path.exists():
        return ()
    try:
        return _RECORDS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise DamagedFile(
            f"{path} was damaged ({first_problem(error)})."
            " Remove it: the controller reads pages and witness again."
        ) from error


def write_elsewhere(home: Path, records: tuple[RemoteRecord, ...]) -> None:
    """Keep what was read on version pages and of the witness, whole or not at all."""
    raw = _RECORDS.dump_json(records, indent=1)
    text = raw.decode() + "\n"
    write_private(elsewhere_file(home), text)


def _digest(kind: str, value: Value) -> str:
    """What is signed: the value without its defaults.

    So a field that is added later changes no older signature.
    """
    # The kind is signed too, so that a seal of one kind is never taken for the other.
    document = {"assay": kind, "value": value.model_dump(exclude_defaults=True)}
    text = json.dumps(
        document,
        sort_keys=True,
        separators=(",", ":"),
        default=_as_json,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _as_json(value: Any) -> Any:
    """Sets in an order, and times in UTC: the same value gives the same text in every process."""
    # A set has another order in every process.
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, datetime):
        return canonical_time(value)
    kind = type(value)
    # Loudly: a form that was guessed would change the digest later.
    raise TypeError(f"{kind.__name__} is in no canonical JSON")
