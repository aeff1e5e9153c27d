"""Is the ledger what was written? Verified from the first entry on, against what others remember of it; exports need no database."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from core.errors import BrokenLedger, DamagedFile, IllegalEntry, LedgerError
from core.files import write_text
from core.home import closed_to_us
from core.private_file import write_private
from core.value import Value, first_problem
from registry.ledger.canonical import LARGEST_INTEGER
from registry.ledger.chain import broken, follow
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
LOOK = "Compare the ledger with version pages, exports and the witness: `assay audit verify`, then `assay audit accept-head --reason …`."
NOTHING_KNOWN = "no head is known from elsewhere: a ledger that was cut or replaced as a whole would not show"


class KnownHead(Value):
    """An entry that somebody else saw: how far the ledger went at least, and what stood there."""

    generation: Generation
    hash: Digest
    where: str
    revoked: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Versions that were revoked by then, by model; empty where that is not remembered."""
    revoked_adapters: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: HeadRecord, where: str) -> "KnownHead":
        """What a head record says."""
        return cls(
            generation=record.head.generation,
            hash=record.head.hash,
            where=where,
            revoked=record.revoked,
            revoked_adapters=record.revoked_adapters,
        )

    @classmethod
    def from_tag(cls, text: str, where: str) -> "KnownHead":
        """What a version page says, `GENERATION:HASH`.

        `LedgerError` where it says something else.
        """
        number, _, digest = text.partition(":")
        try:
            head = cls(generation=int(number), hash=digest, where=where)
        except ValueError as error:
            raise _unreadable_tag(text, where) from error
        # An entry that accepts the loss of that one could not be written.
        if head.generation > LARGEST_INTEGER:
            raise _unreadable_tag(text, where)
        return head


def _unreadable_tag(text: str, where: str) -> LedgerError:
    return LedgerError(
        f"{where} says {text[:100]!r}, which names no entry of a ledger."
        f" Correct its tag {PAGE_TAG}."
    )


class AuditReport(Value):
    """What an audit found: how far the ledger is whole, and the first thing that is wrong."""

    whole_up_to: int
    """The last generation that was verified; 0: none."""
    head: Head | None
    bad_entry: int | None = None
    problem: str | None = None
    known_heads: int = 0
    notes: tuple[str, ...] = ()
    """What could not be looked at."""

    @property
    def is_whole(self) -> bool:
        """Nothing is wrong with any entry, known head or reason."""
        return self.problem is None and self.head is not None


def verify(ledger: Ledger, known: Sequence[KnownHead] = ()) -> AuditReport:
    """Verify every entry, that nothing which others remember is missing or changed, and every reason that is kept."""
    report = _report(ledger.each_entry(), known)
    if not report.is_whole:
        return report
    try:
        _checked_texts(ledger)
    except BrokenLedger as error:
        return report.model_copy(update={"problem": str(error)})
    return report


def verify_export(path: Path, known: Sequence[KnownHead] = ()) -> AuditReport:
    """The same for an export, with nothing but the file. It ends where it was made: what others saw later is told, and is no fault."""
    report = _report(_exported(path), known, is_newest=False)
    later = [each for each in known if each.generation > report.whole_up_to]
    if not report.is_whole or not later:
        return report
    fact = "so the ledger went on after this export, or its end was cut off and its last line written anew"
    notes = (
        *(NOTHING_KNOWN,)[: len(known) == len(later)],
        f"{later[0].where} remembers entry {later[0].generation}, {fact}",
    )
    return report.model_copy(
        update={"known_heads": len(known) - len(later), "notes": notes}
    )


def export(ledger: Ledger, into: Path, *, with_texts: bool = False) -> Head:
    """Write the verified ledger as JSON lines, whole or not at all: entries, reasons if asked, and last the head.

    With reasons the file is for its owner alone. Of what is there only an older export is replaced.
    """
    entries = ledger.entries()
    head = follow(None, entries).head
    lines: list[dict[str, Any]] = [{"entry": _document(entry)} for entry in entries]
    if with_texts:
        lines += [
            {"text": text, "sha256": digest}
            for digest, text in sorted(_checked_texts(ledger).items())
        ]
    lines.append({"head": head.model_dump()})
    write = write_private if with_texts else write_text
    try:
        if into.exists() and not _is_export(
            into
        ):  # a slip of the hand may name a database or a key
            raise LedgerError(
                f"{into} exists and is no export. Give another path: an export replaces nothing else."
            )
        write(
            into,
            "".join(
                json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n"
                for line in lines
            ),
        )
    except OSError as error:
        raise LedgerError(
            f"The export {into} cannot be written ({error.strerror}). Make room, or give another place."
        ) from error
    return head


def _is_export(path: Path) -> bool:
    """It begins as one, or is empty."""
    try:
        return path.is_file() and next(_lines(path), True) is not None
    except LedgerError:
        return False


def restore_ledger(path: Path, home: Path) -> Ledger:
    """A ledger from an export, verified first, into a home whose ledger is empty. The key comes from the backup, not from here."""
    entries = tuple(_exported(path))
    follow(None, entries)
    return fill_ledger(
        home, entries, [line["text"] for _, line in _lines(path) if "text" in line]
    )


def keep_export(path: Path, home: Path) -> None:
    """Copy an export to where the next audit finds its head."""
    folder = home / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    if path.resolve().parent != folder.resolve():
        shutil.copy(
            path,
            folder / (path.name if path.suffix == ".jsonl" else f"{path.name}.jsonl"),
        )


def known_heads(
    home: Path, ledger_state: LedgerState | None = None
) -> tuple[tuple[KnownHead, ...], tuple[str, ...]]:
    """What this home remembers (head record, what was read elsewhere, endpoint, exports), and what of it could not be read.

    `standing` gives the keys whose seals count; without it only this machine's own does.
    """
    trusted = trusted_keys(home, ledger_state)
    heads: list[KnownHead] = []
    notes: list[str] = []
    for path, read in _stores(home, trusted):
        try:
            heads += read()
        except (LedgerError, DamagedFile, ValidationError, OSError, ValueError):
            notes.append(
                f"{path} could not be read, so what it remembers was not looked at"
            )
    return tuple(heads), tuple(notes)


def _stores(
    home: Path, trusted: frozenset[str]
) -> Iterator[tuple[Path, Callable[[], tuple[KnownHead, ...]]]]:
    yield record_file(home), lambda: _in_record(home, trusted)
    yield elsewhere_file(home), lambda: _in_elsewhere(home, trusted)
    yield memory_file(home), lambda: _in_memory(home)
    for path in sorted((home / "exports").glob("*.jsonl")):
        yield path, lambda path=path: (_in_export(path, path.stat().st_mtime_ns),)  # type: ignore[misc]


def _in_record(home: Path, trusted: frozenset[str]) -> tuple[KnownHead, ...]:
    sealed = read_record(home)
    if sealed is None:
        return ()
    if not sealed.is_by(trusted):
        raise DamagedFile(f"{record_file(home)} is sealed by no key of this ledger.")
    return (KnownHead.of(sealed.record, f"the head record {record_file(home)}"),)


def _in_elsewhere(home: Path, trusted: frozenset[str]) -> tuple[KnownHead, ...]:
    told = read_elsewhere(home)
    if not all(each.sealed.is_intact for each in told):
        raise DamagedFile(f"{elsewhere_file(home)} was edited.")
    # What a key sealed that was revoked since counts no more: the key may have been stolen.
    return tuple(
        KnownHead.of(each.sealed.record, each.where)
        for each in told
        if each.sealed.is_by(trusted)
    )


def _in_memory(home: Path) -> tuple[KnownHead, ...]:
    memory = read_memory(home)
    return (
        ()
        if memory is None
        else (KnownHead.of(HeadRecord.of(memory.standing), "the endpoint's memory"),)
    )


@lru_cache(maxsize=256)
def _in_export(path: Path, _changed_at: int) -> KnownHead:
    """An export's head. It is read once as long as it does not change."""
    head = _last_line(path)
    return KnownHead(
        generation=head.generation, hash=head.hash, where=f"the export {path.name}"
    )


def with_revocations(known: KnownHead, ledger: Ledger) -> KnownHead | None:
    """A known head with what is revoked by then; None where it is an export that does not prove to be of this ledger.

    What is sealed was looked at when it was read. An export is verified here, where it matters, and must begin as the ledger does.
    """
    path = ledger.home / "exports" / known.where.removeprefix("the export ")
    if not known.where.startswith("the export ") or not path.is_file():
        return known
    try:
        entries = tuple(_exported(path))
        ledger.check_holds(1, entries[0].hash, known.where)
        return KnownHead.of(HeadRecord.of(follow(None, entries)), known.where)
    except (LedgerError, IndexError):
        return None


def unproven(known: KnownHead) -> str:
    """What is said of an export that is none of this ledger."""
    return f"{known.where} remembers entry {known.generation} and does not verify as one of this ledger. Take it out of the home's exports."


def check_known(
    ledger: Ledger, ledger_state: LedgerState, known: Iterable[KnownHead]
) -> None:
    """`BrokenLedger` where the ledger lacks an entry that is known, and whose loss it does not accept."""
    for each in lost_heads(ledger, ledger_state, known):
        if with_revocations(each, ledger) is not None:
            ledger.check_holds(each.generation, each.hash, each.where)


def keys_ever(ledger: Ledger) -> frozenset[str]:
    """The controller's keys that the ledger trusts or trusted, revoked ones too."""
    bodies = (entry.body for entry in ledger.each_entry())
    keys = (body.key for body in bodies if isinstance(body, Opened | KeyAdded))
    return frozenset(key.public for key in keys if key.role == "controller")


def check_home(ledger: Ledger, ledger_state: LedgerState) -> None:
    """`BrokenLedger` where the ledger lacks what its home remembers: nothing is to follow from it then."""
    check_known(ledger, ledger_state, known_heads(ledger.home, ledger_state)[0])


def lost_heads(
    ledger: Ledger, ledger_state: LedgerState, known: Iterable[KnownHead]
) -> tuple[KnownHead, ...]:
    """Known heads that the ledger does not hold and whose loss it does not accept."""
    return tuple(each for each in known if _is_lost(ledger, ledger_state, each))


def _is_lost(ledger: Ledger, ledger_state: LedgerState, known: KnownHead) -> bool:
    try:
        ledger.check_holds(known.generation, known.hash, known.where)
    except BrokenLedger:
        return known.hash not in ledger_state.accepted
    return False


def doubts(home: Path, ledger: Ledger, ledger_state: LedgerState) -> tuple[str, ...]:
    """Why the ledger may not be whole, by what this home remembers: a sentence each. None where all agree."""
    known, unread = known_heads(home, ledger_state)
    faults = store_faults(home)
    damaged = tuple(
        f"{note}. {LOOK}"
        for note in unread
        if not any(note.split(" could")[0] in fault for fault in faults)
    )
    lost = lost_heads(ledger, ledger_state, known)
    strange = tuple(
        unproven(each) for each in lost if with_revocations(each, ledger) is None
    )
    try:
        check_known(ledger, ledger_state, lost)
    except BrokenLedger as error:
        return (str(error), *faults, *damaged, *strange)
    return (*faults, *damaged, *strange)


def store_faults(home: Path) -> tuple[str, ...]:
    """Which of this home's own records of the ledger were there and are gone, or are not what was written."""
    closed = next(
        (
            why
            for path in (record_file(home), memory_file(home))
            if (why := closed_to_us(path)) is not None
        ),
        None,
    )
    if closed is not None:  # another account: nothing is known to be gone or damaged
        return (
            f"What this home remembers of the ledger was not compared with it: {closed}.",
        )
    faults = []
    try:
        memory = read_memory(home)
        if memory is None and endpoint_key_file(home).exists():
            fact = f"The endpoint's memory {memory_file(home)} is gone, and the endpoint has run here before."
            faults.append(f"{fact} Find out who removed it. {LOOK}")
    except (DamagedFile, LedgerError, OSError) as error:
        memory = None
        faults.append(f"{error} {LOOK}")
    try:
        if read_record(home) is None and memory is not None and memory.has_seen_record:
            faults.append(
                f"The head record {record_file(home)} is gone. Find out who removed it. {LOOK}"
            )
    except (DamagedFile, OSError):
        faults.append(f"The head record {record_file(home)} was damaged. {LOOK}")
    return tuple(faults)


def _report(
    entries: Iterable[Entry], known: Sequence[KnownHead], *, is_newest: bool = True
) -> AuditReport:
    ledger_state: LedgerState | None = None
    before: dict[int, Head | None] = {}
    problem: str | None = None
    forks: list[KnownHead] = []
    try:
        for entry in entries:
            before[entry.generation] = (
                None if ledger_state is None else ledger_state.head
            )
            ledger_state = follow(ledger_state, (entry,))
            forks += [
                each
                for each in known
                if each.generation == entry.generation and each.hash != entry.hash
            ]
        follow(ledger_state, ())
    except (BrokenLedger, IllegalEntry) as error:
        problem = str(error)
    # What accepts a loss may stand behind it, so the forks are judged at the end.
    accepted = {} if ledger_state is None else ledger_state.accepted
    fork = next((each for each in forks if each.hash not in accepted), None)
    head = None if ledger_state is None else ledger_state.head
    if fork is not None:
        head = before[fork.generation]
        problem = str(
            broken(
                fork.generation,
                f"{fork.where} remembers another one, so it was written anew or is of another ledger",
            )
        )
    elif problem is None and is_newest and head is not None:
        problem = _unreached(
            head, [each for each in known if each.hash not in accepted]
        )
    reached = 0 if head is None else head.generation
    return AuditReport(
        whole_up_to=reached,
        head=head,
        bad_entry=None if problem is None else reached + 1,
        problem=problem,
        known_heads=len(known),
        notes=() if known else (NOTHING_KNOWN,),
    )


def _unreached(head: Head, known: Sequence[KnownHead]) -> str | None:
    furthest = max((each.generation for each in known), default=0)
    if furthest <= head.generation:
        return None
    who = " and ".join(each.where for each in known if each.generation == furthest)
    return (
        f"Entry {head.generation + 1} is gone: {who} {'remember' if ' and ' in who else 'remembers'} entry {furthest}, so the ledger's"
        " tail was cut off"
        f" or an old copy was put back. {ACCEPT}"
    )


def _checked_texts(ledger: Ledger) -> dict[str, str]:
    return {digest: check_text(digest, text) for digest, text in ledger.texts().items()}


def _document(entry: Entry) -> dict[str, Any]:
    return {
        **entry.model_dump(mode="json"),
        "at": canonical_time(entry.at),
        "body": body_document(entry.body),
    }


def _exported(path: Path) -> Iterator[Entry]:
    """Its entries, one by one; at the end its head must be the last one's, or its own end was cut off."""
    generation, digest = 0, ""
    for number, line in _lines(path):
        if "entry" in line:
            entry = _parsed(Entry, line["entry"], f"{path} line {number}")
            generation, digest = entry.generation, entry.hash
            yield entry
        elif "text" in line:
            check_text(str(line.get("sha256")), str(line["text"]))
    head = _last_line(path)
    if (head.generation, head.hash) != (generation, digest):
        raise BrokenLedger(
            f"{path} ends at entry {generation} and names entry {head.generation} as its last. Take another export."
        )


def _last_line(path: Path) -> Head:
    last: dict[str, Any] = {}
    for _, line in _lines(path):
        last = line
    if "head" not in last:
        raise BrokenLedger(
            f"{path} does not end with a head, so its end was cut off. Take another export."
        )
    return _parsed(Head, last["head"], f"{path}, its last line,")


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, text in enumerate(lines, 1):
                line = json.loads(text)
                if (
                    not isinstance(line, dict)
                    or not {"entry", "text", "head"} & line.keys()
                ):
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


def _parsed(kind: type[_V], document: Any, where: str) -> _V:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise BrokenLedger(
            f"{where} is no {kind.__name__.lower()} ({first_problem(error)}). Take another export."
        ) from error
