"""What is kept of a ledger outside of it: how far it went at least, and what it had revoked by then.

The head record (`keys/head.json`) is sealed by whoever writes the ledger, the endpoint's memory by
the endpoint. So a ledger whose end was cut off shows, and what was revoked stays revoked.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
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
    seal,
)
from registry.ledger.state import LedgerState

SECONDS_FOR_THE_LOCK = 1.0


class Remembers(Protocol):
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
        """What a standing amounts to."""
        models = ledger_state.models.items()
        revoked = {
            name: tuple(sorted(model.revoked))
            for name, model in models
            if model.revoked
        }
        adapters = tuple(sorted(ledger_state.revoked_adapters))
        return cls(head=ledger_state.head, revoked=revoked, revoked_adapters=adapters)

    def with_revoked(self, others: Iterable[Remembers]) -> Self:
        """The same head, and besides what others know as revoked, which is never forgotten."""
        everybody: tuple[Remembers, ...] = (self, *others)
        names = sorted({name for each in everybody for name in each.revoked})
        revoked = {
            name: tuple(
                sorted(
                    {
                        number
                        for each in everybody
                        for number in each.revoked.get(name, ())
                    }
                )
            )
            for name in names
        }
        adapters = tuple(
            sorted({adapter for each in everybody for adapter in each.revoked_adapters})
        )
        return self.model_copy(
            update={"revoked": revoked, "revoked_adapters": adapters}
        )

    @classmethod
    def about(cls, ledger_state: LedgerState, model: str, version: str) -> Self:
        """The head, and of what is revoked this version alone: for its page, which is short."""
        if version not in ledger_state.model(model).revoked:
            return cls(head=ledger_state.head)
        judged = (
            each.adapter_sha256
            for each in ledger_state.judged.values()
            if (each.model, each.version) == (model, version)
        )
        released = (
            each.release
            for each in ledger_state.model(model).once_served
            if each.release.version == version
        )
        known = {*judged, *(each.spec.adapter_sha256 for each in released)}
        adapters = tuple(
            sorted(each for each in known if each in ledger_state.revoked_adapters)
        )
        return cls(
            head=ledger_state.head,
            revoked={model: (version,)},
            revoked_adapters=adapters,
        )


class SealedRecord(Value):
    """A head record, and the seal of a controller's key."""

    record: HeadRecord
    seal: Seal

    @classmethod
    def made(cls, record: HeadRecord, key: SigningKey) -> Self:
        """Sealed with that key."""
        return cls(
            record=record, seal=seal(_digest("head record", record), key.private)
        )

    @property
    def is_intact(self) -> bool:
        """The key that it names sealed it, whoever's that is."""
        return self.is_by(frozenset({self.seal.public}))

    def is_by(self, publics: frozenset[str]) -> bool:
        """One of those keys sealed it."""
        return self.seal.public in publics and self.seal.is_of(
            _digest("head record", self.record)
        )


class Told(Value):
    """A sealed record that was read elsewhere, and where."""

    where: str
    sealed: SealedRecord


class Memory(Value):
    """What the endpoint has verified and obeyed, kept on its own disk."""

    standing: LedgerState
    has_seen_record: bool = False
    """There was a head record by then: where there is none later, somebody removed it."""
    seal: Seal | None = None
    """None: a version of Assay that sealed nothing wrote it."""

    @property
    def digest(self) -> str:
        """What the endpoint's key signs."""
        return _digest("endpoint memory", self.model_copy(update={"seal": None}))


_TOLD = TypeAdapter(tuple[Told, ...])


def record_file(home: Path) -> Path:
    """Where whoever writes the ledger keeps its head."""
    return home / "keys" / "head.json"


def elsewhere_file(home: Path) -> Path:
    """Where the controller keeps what version pages and the witness remember."""
    return home / "keys" / "elsewhere.json"


def memory_file(home: Path) -> Path:
    """Where the endpoint keeps what it obeyed."""
    return home / "endpoint" / "standing.json"


def read_record(home: Path) -> SealedRecord | None:
    """The head record, whoever sealed it; None where there is none, `DamagedFile` where it is no record."""
    if not record_file(home).exists():
        return None
    return SealedRecord.read(record_file(home))


def keep_record(
    home: Path, before: LedgerState, ledger_state: LedgerState, key: SigningKey
) -> None:
    """Keep how far the ledger goes now; `before` is how things stood before its last entry, which may have revoked a key.

    Never a step back, and nothing over a record that does not fit or in place of one that is gone:
    that is for an alarm and for a person. What fails here fails nothing else: the entry is written.
    """
    try:
        with exclusive(head_lock(home), wait=SECONDS_FOR_THE_LOCK):
            there = read_record(home)
            if _may_replace(
                home,
                there,
                ledger_state,
                trusted_keys(home, ledger_state) | ledger_keys(before),
            ):
                write_record(
                    home,
                    ledger_state,
                    key,
                    also=() if there is None else (there.record,),
                )
    # A lock that stays busy is a TimeoutError, which is an OSError.
    except (OSError, DamagedFile, LedgerError):
        return


def write_record(
    home: Path,
    ledger_state: LedgerState,
    key: SigningKey,
    *,
    also: Iterable[Remembers] = (),
) -> None:
    """Write it, whatever is there; `also` know as revoked what the ledger may have lost."""
    sealed = SealedRecord.made(HeadRecord.of(ledger_state).with_revoked(also), key)
    write_private(record_file(home), sealed.model_dump_json(indent=1) + "\n")


def _may_replace(
    home: Path,
    there: SealedRecord | None,
    ledger_state: LedgerState,
    trusted: frozenset[str],
) -> bool:
    if there is None:
        return may_begin_record(home, ledger_state)
    if not there.is_by(trusted):
        return False
    head = there.record.head
    return (
        head.generation < ledger_state.head.generation
        or head.hash in ledger_state.accepted
    )


def may_begin_record(home: Path, ledger_state: LedgerState) -> bool:
    """There never was one here: the endpoint remembers none, or nothing ever served."""
    memory = read_memory(home)
    if memory is not None:
        return not memory.has_seen_record
    return is_new(home, ledger_state)


def is_new(home: Path, ledger_state: LedgerState) -> bool:
    """Nothing of that ledger ever served, and no endpoint of this home has a key."""
    served = any(model.once_served for model in ledger_state.models.values())
    return not served and not endpoint_key_file(home).exists()


def trusted_keys(home: Path, ledger_state: LedgerState | None) -> frozenset[str]:
    """Whose seals count: the controller's keys that the ledger trusts, and this machine's own."""
    own = set()
    with suppress(LedgerError):  # whoever only reads has no key, or may not read it
        own.add(load_key(home).public.public)
    return frozenset(own) | ledger_keys(ledger_state)


def ledger_keys(ledger_state: LedgerState | None) -> frozenset[str]:
    """The controller's keys that the ledger trusts."""
    keys = () if ledger_state is None else ledger_state.keys
    return frozenset(key.public for key in keys if key.role == "controller")


def read_memory(home: Path) -> Memory | None:
    """What the endpoint remembers; None where nothing is. `DamagedFile` where it is not what its key signed."""
    path = memory_file(home)
    if not path.is_file():
        return None
    memory = _parsed_memory(path)
    has_key = endpoint_key_file(home).exists()
    if memory.seal is None and not has_key:
        return memory
    if memory.seal is None or not has_key:
        fact = (
            "has no signature"
            if has_key
            else f"is signed, and {endpoint_key_file(home)} is gone"
        )
        raise DamagedFile(
            f"The endpoint's memory {path} {fact}: it was edited or put there by hand."
        )
    raw = (
        load_endpoint_key(home)
        .public_key()
        .public_bytes(Encoding.Raw, PublicFormat.Raw)
    )
    if memory.seal.public != raw.hex() or not memory.seal.is_of(memory.digest):
        raise DamagedFile(
            f"The endpoint's memory {path} is not what the endpoint signed: it was edited."
        )
    return memory


def _parsed_memory(path: Path) -> Memory:
    try:
        document = json.loads(path.read_bytes())
        if isinstance(document, dict) and "standing" in document:
            return Memory.model_validate_json(path.read_bytes())
        return Memory(standing=LedgerState.model_validate_json(path.read_bytes()))
    except ValidationError as error:
        raise DamagedFile(
            f"The endpoint's memory {path} was damaged ({first_problem(error)})."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DamagedFile(
            f"The endpoint's memory {path} was damaged: it is not JSON."
        ) from error


def write_memory(home: Path, memory: Memory) -> None:
    """Seal and keep it, whole or not at all."""
    sealed = memory.model_copy(
        update={"seal": seal(memory.digest, create_endpoint_key(home))}
    )
    sealed.write(memory_file(home))


def read_elsewhere(home: Path) -> tuple[Told, ...]:
    """What the controller read on version pages and of the witness; `DamagedFile` where it does not parse."""
    path = elsewhere_file(home)
    if not path.exists():
        return ()
    try:
        return _TOLD.validate_json(path.read_bytes())
    except ValidationError as error:
        raise DamagedFile(
            f"{path} was damaged ({first_problem(error)}). Remove it: the controller reads it anew."
        ) from error


def write_elsewhere(home: Path, told: tuple[Told, ...]) -> None:
    """Keep it, whole or not at all."""
    write_private(elsewhere_file(home), _TOLD.dump_json(told, indent=1).decode() + "\n")


def _digest(kind: str, value: Value) -> str:
    """What is signed: the value without its defaults, so that a later field changes no older signature."""
    document = {"assay": kind, "value": value.model_dump(exclude_defaults=True)}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Sets in an order, and times in UTC: the same value gives the same text in every process."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, datetime):
        return canonical_time(value)
    raise TypeError(f"{type(value).__name__} is in no canonical JSON")
