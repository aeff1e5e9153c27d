"""The audit: whether the ledger is what was written.

Verified from the first entry on, against what others remember of it. An export needs no database.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from core.errors import BrokenLedger, DamagedFile, IllegalEntry, LedgerError
from core.files import write_text
from core.home import explain_no_access
from core.private_file import write_private
from core.value import Value, first_problem
from registry.ledger.canonical import LARGEST_INTEGER
from registry.ledger.chain import broken_entry, follow
from registry.ledger.entries import (
    Digest,
    Entry,
    Generation,
    Head,
    KeyAdded,
    Opened,
    body_document,
    canonical_time,
)
from registry.ledger.heads import (
    HeadRecord,
    Memory,
    elsewhere_file,
    memory_file,
    read_elsewhere,
    read_memory,
    read_record,
    record_file,
    trusted_keys,
)
from registry.ledger.keys import endpoint_key_file
from registry.ledger.ledger import ACCEPT, Ledger, check_text, fill_ledger
from registry.ledger.state import LedgerState

_V = TypeVar("_V", bound=Value)
PAGE_TAG = "assay.ledger_head"
"""Tag of a version page: the head at its release, `GENERATION:HASH`."""
LOOK = (
    "Compare the ledger with version pages, exports and the witness:"
    " `assay audit verify`, then `assay audit accept-head --reason …`."
)
NOTHING_KNOWN = (
    "no head is known from elsewhere:"
    " a ledger that was cut or replaced as a whole would not show"
)
_EXPORT = "the export "
"""What the name of an export's head begins with."""


class KnownHead(Value):
    """An entry that somebody else saw: how far the ledger went at least, and its hash there."""

    # An entry that accepts the loss of a later one could not be written.
    generation: Annotated[Generation, Field(le=LARGEST_INTEGER)]
    hash: Digest
    where: str
    revoked: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Versions that were revoked by then, by model; empty where that is not remembered."""
    revoked_adapters: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: HeadRecord, where: str) -> "KnownHead":
        """The head of a head record, and what it knows as revoked."""
        return cls(
            generation=record.head.generation,
            hash=record.head.hash,
            where=where,
            revoked=record.revoked,
            revoked_adapters=record.revoked_adapters,
        )

    @classmethod
    def from_tag(cls, text: str, where: str) -> "KnownHead":
        """The head on a version page, `GENERATION:HASH`.

        `LedgerError` where it says something else.
        """
        number, _, digest = text.partition(":")
        try:
            return cls(generation=int(number), hash=digest, where=where)
        except ValueError as error:
            raise _unreadable_tag(text, where) from error


def _unreadable_tag(text: str, where: str) -> LedgerError:
    return LedgerError(
        f"{where} says {text[:100]!r}, which names no entry of a ledger."
        f" Correct its tag {PAGE_TAG}."
    )


class AuditReport(Value):
    """What an audit found: how far the ledger is valid, and the first thing that is wrong."""

    whole_up_to: int
    """The last generation that was verified; 0: none."""
    head: Head | None
    bad_entry: int | None = None
    problem: str | None = None
    known_heads: int = 0
    notes: tuple[str, ...] = ()
    """What could not be checked."""
    origins: tuple[str, ...] = ()
    """What other installations vouch for: their ledgers are not in this one."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong with any entry, known head or reason."""
        has_problem = self.problem is not None
        return self.head is not None and not has_problem


def verify(ledger: Ledger, heads: Sequence[KnownHead] = ()) -> AuditReport:
    """Verify every entry, and every reason that is kept.

    Nothing that others remember may be missing or changed.
    """
    report = _audit(ledger.iterate_entries(), heads)
    if not report.is_whole:
        return report
    try:
        # Reasons last: their problem names no entry, and the entries are valid without them.
        _checked_texts(ledger)
    except BrokenLedger as error:
        return report.model_copy(update={"problem": str(error)})
    return report


def verify_export(path: Path, heads: Sequence[KnownHead] = ()) -> AuditReport:
    """Verify an export, with nothing but the file.

    It ends where it was made: what others saw later is noted, and is no fault.
    """
    report = _audit(iterate_export(path), heads, is_newest=False)
    # An export cannot hold what was written after it.
    later = [head for head in heads if head.generation > report.whole_up_to]
    if not report.is_whole or not later:
        return report
    notes = []
    if len(later) == len(heads):
        notes.append(NOTHING_KNOWN)
    notes.append(
        f"{later[0].where} remembers entry {later[0].generation}, so entries were added after"
        " this export, or its end was cut off and its last line rewritten"
    )
    changes = {"known_heads": len(heads) - len(later), "notes": tuple(notes)}
    return report.model_copy(update=changes)


def export(ledger: Ledger, into: Path, *, with_texts: bool = False) -> Head:
    """Write the verified ledger as JSON lines, whole or not at all, and give its head.

    Entries come first, then the reasons if asked for, and the head last. With reasons only its
    owner may read the file. `LedgerError` where the file cannot be written or is there and is no
    older export; `BrokenLedger` or `IllegalEntry` names the first bad entry.
    """
    entries = ledger.entries()
    head = follow(None, entries).head
    lines: list[dict[str, Any]] = [{"entry": _document(entry)} for entry in entries]
    if with_texts:
        checked = _checked_texts(ledger)
        texts = sorted(checked.items())
        lines += [{"text": text, "sha256": digest} for digest, text in texts]
    # The head is the last line, so that a file that was cut is noticed.
    lines.append({"head": head.model_dump()})
    content = "".join(
        json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n" for line in lines
    )
    # Reasons may hold personal data.
    write = write_private if with_texts else write_text
    try:
        # A slip of the hand may name a database or a key.
        if into.exists() and not _is_export(into):
            raise LedgerError(
                f"{into} exists and is no export."
                " Give another path: an export replaces nothing else."
            )
        write(into, content)
    except OSError as error:
        raise LedgerError(
            f"The export {into} cannot be written ({error.strerror})."
            " Make room, or give another place."
        ) from error
    return head


def _is_export(path: Path) -> bool:
    """Whether the file begins as an export, or is empty."""
    try:
        return path.is_file() and next(_read_lines(path), True) is not None
    except LedgerError:
        return False


def restore_ledger(path: Path, home: Path) -> Ledger:
    """Fill the empty ledger of a home from an export, verified first.

    The key comes from the backup, not from here. `BrokenLedger` or `IllegalEntry` names the first
    bad entry; `LedgerError` where the ledger holds other entries.
    """
    # All of it first: nothing is written from an export that is broken at its end.
    entries = tuple(iterate_export(path))
    follow(None, entries)
    texts = []
    for _, line in _read_lines(path):
        # Most lines are entries; a text stands on a line of its own.
        if "text" in line:
            text = line["text"]
            texts.append(text)
    return fill_ledger(
        home,
        entries,
        texts,
    )


def read_export(path: Path) -> tuple[Entry, ...]:
    """The entries of an export, verified as a chain of their own.

    Whose ledger it is, nobody has said yet. `BrokenLedger` or `IllegalEntry` names the first bad
    entry.
    """
    entries = tuple(iterate_export(path))
    follow(None, entries)
    return entries


def keep_export(path: Path, home: Path) -> None:
    """Copy an export to where the next audit finds its head."""
    folder = home / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    # It was exported to that folder.
    if path.resolve().parent == folder.resolve():
        return
    name = path.name if path.suffix == ".jsonl" else f"{path.name}.jsonl"
    shutil.copy(path, folder / name)


def known_heads(
    home: Path, ledger_state: LedgerState | None = None
) -> tuple[tuple[KnownHead, ...], tuple[str, ...]]:
    """The heads that this home remembers, and which of its stores could not be read.

    The stores are the head record, what was read elsewhere, the endpoint's memory and the exports.
    `ledger_state` gives the keys whose seals count; without it only this machine's own does.
    """
    trusted = trusted_keys(home, ledger_state)
    heads: list[KnownHead] = []
    notes: list[str] = []
    stores = _list_stores(home, trusted)
    for path, read in stores:
        try:
            heads += read()
        # One damaged store must not hide what the others remember.
        except (LedgerError, DamagedFile, ValidationError, OSError, ValueError):
            notes.append(
                f"{path} could not be read, so what it remembers was not looked at"
            )
    return tuple(heads), tuple(notes)


def _list_stores(
    home: Path, trusted: frozenset[str]
) -> Iterator[tuple[Path, Callable[[], tuple[KnownHead, ...]]]]:
    """Each file that remembers heads, with the call that reads them."""
    yield record_file(home), partial(_read_from_record, home, trusted)
    yield elsewhere_file(home), partial(_read_from_elsewhere, home, trusted)
    yield memory_file(home), partial(_read_from_memory, home)
    folder = home / "exports"
    for path in sorted(folder.glob("*.jsonl")):
        yield path, partial(_read_from_export, path)


def _read_from_record(home: Path, trusted: frozenset[str]) -> tuple[KnownHead, ...]:
    sealed = read_record(home)
    if sealed is None:
        return ()
    # Anybody who may write the home can put a record there.
    if not sealed.is_sealed_by(trusted):
        raise DamagedFile(f"{record_file(home)} is sealed by no key of this ledger.")
    head = KnownHead.of(sealed.record, f"the head record {record_file(home)}")
    return (head,)


def _read_from_elsewhere(home: Path, trusted: frozenset[str]) -> tuple[KnownHead, ...]:
    records = read_elsewhere(home)
    if not all(record.sealed.is_intact for record in records):
        raise DamagedFile(f"{elsewhere_file(home)} was edited.")
    # What a key sealed that was revoked since does not count: the key may have been stolen.
    return tuple(
        KnownHead.of(record.sealed.record, record.where)
        for record in records
        if record.sealed.is_sealed_by(trusted)
    )


def _read_from_memory(home: Path) -> tuple[KnownHead, ...]:
    memory = read_memory(home)
    if memory is None:
        return ()
    record = HeadRecord.of(memory.standing)
    head = KnownHead.of(record, "the endpoint's memory")
    return (head,)


def _read_from_export(path: Path) -> tuple[KnownHead, ...]:
    changed_at = path.stat().st_mtime_ns
    return (_export_head(path, changed_at),)


# The endpoint asks every few seconds, and exports only grow in number.
@lru_cache(maxsize=256)
def _export_head(path: Path, _changed_at: int) -> KnownHead:
    """An export's head. It is read once as long as the file does not change."""
    head = _read_head(path)
    return KnownHead(
        generation=head.generation,
        hash=head.hash,
        where=f"{_EXPORT}{path.name}",
    )


def add_revocations(head: KnownHead, ledger: Ledger) -> KnownHead | None:
    """A known head with what is revoked by then; None for an export of another ledger.

    A sealed head was checked when it was read. An export is verified here, where it matters, and
    must begin as the ledger does.
    """
    path = ledger.home / "exports" / head.where.removeprefix(_EXPORT)
    if not head.where.startswith(_EXPORT) or not path.is_file():
        return head
    try:
        entries = tuple(iterate_export(path))
        # The same first entry is the same ledger: it holds an id chosen by chance.
        ledger.check_holds(1, entries[0].hash, head.where)
        record = HeadRecord.of(follow(None, entries))
    except (LedgerError, IndexError):
        return None
    return KnownHead.of(record, head.where)


def describe_foreign_export(head: KnownHead) -> str:
    """What to do about an export that is of another ledger."""
    return (
        f"{head.where} remembers entry {head.generation} and"
        " does not verify as one of this ledger. Take it out of the home's exports."
    )


def check_known(
    ledger: Ledger, ledger_state: LedgerState, heads: Iterable[KnownHead]
) -> None:
    """Check that the ledger holds every known entry whose loss it does not accept.

    `BrokenLedger` names the first that it lacks.
    """
    for head in find_lost_heads(ledger, ledger_state, heads):
        is_foreign = add_revocations(head, ledger) is None
        if not is_foreign:
            ledger.check_holds(head.generation, head.hash, head.where)


def read_all_keys(ledger: Ledger) -> frozenset[str]:
    """The controller's keys that the ledger trusts or trusted, revoked ones too."""
    keys = set()
    for entry in ledger.iterate_entries():
        body = entry.body
        if isinstance(body, Opened | KeyAdded) and body.key.role == "controller":
            keys.add(body.key.public)
    return frozenset(keys)


def check_home(ledger: Ledger, ledger_state: LedgerState) -> None:
    """Check that the ledger holds what its home remembers.

    `BrokenLedger` where it does not: nothing may follow from it then.
    """
    home = ledger.home
    heads, _ = known_heads(home, ledger_state)
    check_known(ledger, ledger_state, heads)


def find_lost_heads(
    ledger: Ledger, ledger_state: LedgerState, heads: Iterable[KnownHead]
) -> tuple[KnownHead, ...]:
    """Known heads that the ledger does not hold and whose loss it does not accept."""
    lost = (
        head
        for head in heads
        # What a person accepted as lost is no news at each audit.
        if _is_lost(ledger, ledger_state, head)
    )
    return tuple(lost)


def _is_lost(ledger: Ledger, ledger_state: LedgerState, head: KnownHead) -> bool:
    try:
        ledger.check_holds(head.generation, head.hash, head.where)
    except BrokenLedger:
        return head.hash not in ledger_state.accepted
    return False


def find_doubts(
    home: Path, ledger: Ledger, ledger_state: LedgerState
) -> tuple[str, ...]:
    """Why the ledger may not be whole, by what this home remembers: a sentence each.

    Empty where all agree.
    """
    heads, unread = known_heads(home, ledger_state)
    faults = find_store_faults(home)
    damaged = tuple(
        f"{note}. {LOOK}" for note in unread if not _is_reported(note, faults)
    )
    lost = find_lost_heads(ledger, ledger_state, heads)
    foreign = tuple(
        describe_foreign_export(head)
        for head in lost
        if add_revocations(head, ledger) is None
    )
    sentences = (*faults, *damaged, *foreign)
    try:
        check_known(ledger, ledger_state, lost)
    except BrokenLedger as error:
        return (str(error), *sentences)
    return sentences


def _is_reported(note: str, faults: tuple[str, ...]) -> bool:
    """Whether a fault is already about the file that could not be read."""
    name, _, _ = note.partition(" could")
    # Said once: two sentences about one file look like two faults.
    about = (name in fault for fault in faults)
    return any(about)


def find_store_faults(home: Path) -> tuple[str, ...]:
    """Which of this home's own records of the ledger are missing, or not what was written."""
    closed = _find_closed_store(home)
    # Another account may not look, so nothing is known to be missing or damaged.
    if closed is not None:
        return (
            f"What this home remembers of the ledger was not compared with it: {closed}.",
        )
    memory: Memory | None = None
    faults = []
    try:
        memory = read_memory(home)
        if memory is None and endpoint_key_file(home).exists():
            faults.append(
                f"The endpoint's memory {memory_file(home)} is missing, and the endpoint has run"
                f" here before. Find out who removed it. {LOOK}"
            )
    except (DamagedFile, LedgerError, OSError) as error:
        faults.append(f"{error} {LOOK}")
    had_record = memory is not None and memory.has_seen_record
    try:
        if read_record(home) is None and had_record:
            faults.append(
                f"The head record {record_file(home)} is missing."
                f" Find out who removed it. {LOOK}"
            )
    except (DamagedFile, OSError):
        faults.append(f"The head record {record_file(home)} was damaged. {LOOK}")
    return tuple(faults)


def _find_closed_store(home: Path) -> str | None:
    """Why this account may not read the home's own records; None where it may."""
    for path in (record_file(home), memory_file(home)):
        why = explain_no_access(path)
        if why is not None:
            return why
    return None


def _audit(
    entries: Iterable[Entry], heads: Sequence[KnownHead], *, is_newest: bool = True
) -> AuditReport:
    """Verify entries, and compare them with known heads.

    `is_newest`: they are the ledger, not an export, so that a head beyond their end is a fault.
    """
    ledger_state: LedgerState | None = None
    previous_heads: dict[int, Head | None] = {}
    forks: list[KnownHead] = []
    problem: str | None = None
    try:
        for entry in entries:
            previous_heads[entry.generation] = _head_of(ledger_state)
            ledger_state = follow(ledger_state, (entry,))
            forks += _find_forks(entry, heads)
        # A ledger without any entry is broken, not empty.
        follow(ledger_state, ())
    except (BrokenLedger, IllegalEntry) as error:
        problem = str(error)
    # The entry that accepts a loss comes after it, so the forks are judged at the end.
    accepted = {} if ledger_state is None else ledger_state.accepted
    head = _head_of(ledger_state)
    fork = next((fork for fork in forks if fork.hash not in accepted), None)
    if fork is not None:
        head = previous_heads[fork.generation]
        problem = _describe_fork(fork)
    # Of a ledger that is broken anyway, the first bad entry is what counts.
    elif problem is None and is_newest and head is not None:
        open_heads = [other for other in heads if other.hash not in accepted]
        problem = _describe_cut(head, open_heads)
    reached = 0 if head is None else head.generation
    return AuditReport(
        whole_up_to=reached,
        head=head,
        bad_entry=None if problem is None else reached + 1,
        problem=problem,
        known_heads=len(heads),
        notes=() if heads else (NOTHING_KNOWN,),
        origins=() if ledger_state is None else tuple(_list_origins(ledger_state)),
    )


def _list_origins(ledger_state: LedgerState) -> Iterator[str]:
    """Each version that another installation made, and how far its ledger was read for it."""
    for registration in ledger_state.registrations.values():
        made, received = registration.made, registration.received
        # The entries of what was made here are in this very ledger.
        if received is None:
            continue
        origin = received.origin
        yield (
            f"version {made.version} of {made.model} was received from {origin.name}: "
            f"version {received.version_there} there, by entry {received.entered_there} of ledger "
            f"{origin.ledger_id[:12]} up to entry {origin.generation}, {origin.hash[:12]}"
        )


def _head_of(ledger_state: LedgerState | None) -> Head | None:
    if ledger_state is None:
        return None
    return ledger_state.head


def _find_forks(entry: Entry, heads: Sequence[KnownHead]) -> list[KnownHead]:
    """Known heads in whose place the ledger has this other entry."""
    return [
        head
        for head in heads
        if head.generation == entry.generation and head.hash != entry.hash
    ]


def _describe_fork(fork: KnownHead) -> str:
    fact = f"{fork.where} remembers another one, so it was rewritten or is of another ledger"
    return str(broken_entry(fork.generation, fact))


def _describe_cut(head: Head, heads: Sequence[KnownHead]) -> str | None:
    """What is missing behind the last entry; None where no known head is further."""
    # Only the furthest is named: who remembers less agrees with it.
    furthest = max((other.generation for other in heads), default=0)
    if furthest <= head.generation:
        return None
    witnesses = [other.where for other in heads if other.generation == furthest]
    names = " and ".join(witnesses)
    verb = "remember" if " and " in names else "remembers"
    return (
        f"Entry {head.generation + 1} is missing: {names} {verb} entry {furthest}, so the ledger's"
        f" tail was cut off or an old copy was put back. {ACCEPT}"
    )


def _checked_texts(ledger: Ledger) -> dict[str, str]:
    texts = ledger.texts()
    for digest, text in texts.items():
        check_text(digest, text)
    return texts


def _document(entry: Entry) -> dict[str, Any]:
    return {
        **entry.model_dump(mode="json"),
        "at": canonical_time(entry.at),
        "body": body_document(entry.body),
    }


def iterate_export(path: Path) -> Iterator[Entry]:
    """The entries of an export, parsed one by one.

    At the end the head must be the last entry's, or the export's own end was cut off:
    `BrokenLedger`.
    """
    generation, digest = 0, ""
    for number, line in _read_lines(path):
        if "entry" in line:
            entry = _parse(Entry, line["entry"], f"{path} line {number}")
            generation, digest = entry.generation, entry.hash
            yield entry
        elif "text" in line:
            check_text(str(line.get("sha256")), str(line["text"]))
    head = _read_head(path)
    # Whoever cuts lines before the head must change the head as well.
    if (head.generation, head.hash) != (generation, digest):
        raise BrokenLedger(
            f"{path} ends at entry {generation} and names entry {head.generation} as its last."
            " Take another export."
        )


def _read_head(path: Path) -> Head:
    final_line: dict[str, Any] = {}
    for _, line in _read_lines(path):
        final_line = line
    if "head" not in final_line:
        raise BrokenLedger(
            f"{path} does not end with a head, so its end was cut off. Take another export."
        )
    return _parse(Head, final_line["head"], f"{path}, its last line,")


def _read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of an export with their numbers, from 1 on."""
    try:
        # Only \n ends a line: a reason may hold other characters that end lines elsewhere.
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, text in enumerate(lines, 1):
                line = json.loads(text)
                if not _is_line_of_export(line):
                    raise BrokenLedger(
                        f"{path} line {number} is not of an export. Take another one."
                    )
                yield number, line
    except OSError as error:
        raise LedgerError(
            f"The export {path} cannot be read ({error.strerror}). Check the path."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BrokenLedger(
            f"{path} is not whole JSON lines. Take another export."
        ) from error


def _is_line_of_export(line: Any) -> bool:
    if not isinstance(line, dict):
        return False
    kinds = {"entry", "text", "head"}
    return bool(kinds & line.keys())


def _parse(kind: type[_V], document: Any, where: str) -> _V:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        name = kind.__name__.lower()
        raise BrokenLedger(
            f"{where} is no {name} ({first_problem(error)}). Take another export."
        ) from error
