"""Is the ledger what was written? Verified from the first entry on, against what others remember of it; exports need no database."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipelines.errors import BrokenLedger, IllegalEntry, LedgerError
from pipelines.files import write_text
from pipelines.value import Value, first_problem
from registry.chain import broken, follow
from registry.entries import Digest, Entry, Generation, Head, body_document, canonical_time
from registry.ledger import Ledger, check_text, fill_ledger
from registry.private_file import write_private
from registry.standing import Standing

_V = TypeVar("_V", bound=Value)
PAGE_TAG = "assay.ledger_head"
"""Tag of a version page: the head at its release, `GENERATION:HASH`."""
NOTHING_KNOWN = "no head is known from elsewhere: a ledger that was cut or replaced as a whole would not show"


class KnownHead(Value):
    """An entry that somebody else saw: how far the ledger went at least, and what stood there."""

    generation: Generation
    hash: Digest
    where: str

    @classmethod
    def from_tag(cls, text: str, where: str) -> "KnownHead":
        """What a version page says, `GENERATION:HASH`."""
        generation, _, digest = text.partition(":")
        try:
            return cls(generation=int(generation), hash=digest, where=where)
        except ValueError as error:
            raise LedgerError(f"{where} says {text[:100]!r}, which names no entry of a ledger. Correct its tag {PAGE_TAG}.") from error


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
    notes = (*(NOTHING_KNOWN,)[: len(known) == len(later)], f"{later[0].where} remembers entry {later[0].generation}, {fact}")
    return report.model_copy(update={"known_heads": len(known) - len(later), "notes": notes})


def export(ledger: Ledger, into: Path, *, with_texts: bool = False) -> Head:
    """Write the verified ledger as JSON lines, whole or not at all: entries, reasons if asked, and last the head.

    With reasons the file is for its owner alone. Of what is there only an older export is replaced.
    """
    entries = ledger.entries()
    head = follow(None, entries).head
    lines: list[dict[str, Any]] = [{"entry": _document(entry)} for entry in entries]
    if with_texts:
        lines += [{"text": text, "sha256": digest} for digest, text in sorted(_checked_texts(ledger).items())]
    lines.append({"head": head.model_dump()})
    write = write_private if with_texts else write_text
    try:
        if into.exists() and not _is_export(into):  # a slip of the hand may name a database or a key
            raise LedgerError(f"{into} exists and is no export. Give another path: an export replaces nothing else.")
        write(into, "".join(json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n" for line in lines))
    except OSError as error:
        raise LedgerError(f"The export {into} cannot be written ({error.strerror}). Make room, or give another place.") from error
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
    return fill_ledger(home, entries, [line["text"] for _, line in _lines(path) if "text" in line])


def keep_export(path: Path, home: Path) -> None:
    """Copy an export to where the next audit finds its head."""
    folder = home / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    if path.resolve().parent != folder.resolve():
        shutil.copy(path, folder / (path.name if path.suffix == ".jsonl" else f"{path.name}.jsonl"))


def known_heads(home: Path) -> tuple[tuple[KnownHead, ...], tuple[str, ...]]:
    """What the endpoint and the exports of this home remember, and what of it could not be read."""
    heads, notes = [], []
    for path in (home / "endpoint" / "standing.json", *sorted((home / "exports").glob("*.jsonl"))):
        try:
            if path.is_file():
                heads.append(_head_in(path))
        except (LedgerError, ValidationError, OSError, ValueError):
            notes.append(f"{path} could not be read, so what it remembers was not looked at")
    return tuple(heads), tuple(notes)


def _head_in(path: Path) -> KnownHead:
    if path.name == "standing.json":
        head = Standing.model_validate_json(path.read_bytes()).head
        return KnownHead(generation=head.generation, hash=head.hash, where="the endpoint's memory")
    head = _last_line(path)
    return KnownHead(generation=head.generation, hash=head.hash, where=f"the export {path.name}")


def _report(entries: Iterable[Entry], known: Sequence[KnownHead], *, is_newest: bool = True) -> AuditReport:
    standing: Standing | None = None
    problem: str | None = None
    try:
        for entry in entries:
            following = follow(standing, (entry,))
            _check_known(entry, known)
            standing = following
        head = follow(standing, ()).head
        if is_newest:
            _check_reached(head, known)
    except (BrokenLedger, IllegalEntry) as error:
        problem = str(error)
    reached = 0 if standing is None else standing.head.generation
    return AuditReport(
        whole_up_to=reached,
        head=None if standing is None else standing.head,
        bad_entry=None if problem is None else reached + 1,
        problem=problem,
        known_heads=len(known),
        notes=() if known else (NOTHING_KNOWN,),
    )


def _check_known(entry: Entry, known: Sequence[KnownHead]) -> None:
    for each in known:
        if each.generation == entry.generation and each.hash != entry.hash:
            raise broken(entry.generation, f"{each.where} remembers another one, so it was written anew or is of another ledger")


def _check_reached(head: Head, known: Sequence[KnownHead]) -> None:
    furthest = max(known, key=lambda each: each.generation, default=None)
    if furthest is not None and furthest.generation > head.generation:
        raise BrokenLedger(
            f"Entry {head.generation + 1} is gone: {furthest.where} remembers entry {furthest.generation}, so the ledger's tail was cut off"
            " or an old copy was put back. Restore it from a backup or an export."
        )


def _checked_texts(ledger: Ledger) -> dict[str, str]:
    return {digest: check_text(digest, text) for digest, text in ledger.texts().items()}


def _document(entry: Entry) -> dict[str, Any]:
    return {**entry.model_dump(mode="json"), "at": canonical_time(entry.at), "body": body_document(entry.body)}


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
        raise BrokenLedger(f"{path} ends at entry {generation} and names entry {head.generation} as its last. Take another export.")


def _last_line(path: Path) -> Head:
    last: dict[str, Any] = {}
    for _, line in _lines(path):
        last = line
    if "head" not in last:
        raise BrokenLedger(f"{path} does not end with a head, so its end was cut off. Take another export.")
    return _parsed(Head, last["head"], f"{path}, its last line,")


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, text in enumerate(lines, 1):
                line = json.loads(text)
                if not isinstance(line, dict) or not {"entry", "text", "head"} & line.keys():
                    raise BrokenLedger(f"{path} line {number} is not of an export. Take another one.")
                yield number, line
    except OSError as error:
        raise LedgerError(f"The export {path} cannot be read ({error.strerror}). Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise BrokenLedger(f"{path} is not whole JSON lines. Take another export.") from error


def _parsed(kind: type[_V], document: Any, where: str) -> _V:
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise BrokenLedger(f"{where} is no {kind.__name__.lower()} ({first_problem(error)}). Take another export.") from error
