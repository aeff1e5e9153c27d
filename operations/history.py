"""What was served when, on whose word and why; and whether the ledger that says so is whole."""

import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from core.account import current_user, operating_system_account
from core.console import say
from core.environment import mlflow_address, set_library_environment
from core.errors import AssayError, LedgerError, ParameterError
from core.project import Project, find_project
from core.settings import Settings
from core.value import Value
from registry.ledger.audit import (
    LOOK,
    NOTHING_KNOWN,
    PAGE_TAG,
    AuditReport,
    KnownHead,
    export,
    keep_export,
    keys_ever,
    known_heads,
    store_faults,
    verify,
    verify_export,
)
from registry.ledger.chain import follow
from registry.ledger.entries import (
    Adopted,
    BaseServed,
    Body,
    Entry,
    Judged,
    Registered,
    ReleaseAborted,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    Revoked,
    RolledBack,
    Waived,
)
from registry.ledger.heads import trusted_keys
from registry.ledger.keys import load_key
from registry.ledger.ledger import Ledger, open_ledger, read_ledger
from registry.ledger.rotation import rotate
from registry.ledger.witness import witness
from registry.mlflow.pages import told_by_pages
from registry.release.accept import accept_head
from registry.release.context import Order

if TYPE_CHECKING:
    from registry.ledger.state import LedgerState

SECONDS_FOR_MLFLOW = 2.0
_ERASED, _EDITED = "reason erased", "reason edited by hand"
_WORDS = {
    "opened": "ledger opened",
    "key_added": "key added",
    "key_revoked": "key revoked",
    "registered": "registered",
    "adopted": "adopted",
    "release_begun": "release begun",
    "release_switched": "full traffic",
    "release_completed": "release completed",
    "release_aborted": "release aborted",
    "rolled_back": "rolled back to it",
    "base_served": "base served",
    "revoked": "revoked",
    "frozen": "releases frozen",
    "unfrozen": "releases unfrozen",
    "head_accepted": "head accepted",
}


class Happening(Value):
    """One entry, as a person reads it."""

    generation: int
    at: datetime
    kind: str
    words: str
    model: str | None
    version: str | None
    by: str | None
    reason: str | None
    """None where nobody was asked for one, or where it was erased: then `reason_sha256` is there alone."""
    reason_sha256: str | None

    @property
    def line(self) -> str:
        """On one line; what a terminal would obey is shown as it is spelt."""
        what = " ".join(part for part in (self.words, self.model, self.version) if part)
        why = self.reason or (_ERASED if self.reason_sha256 else None)
        tail = f" by {self.by}" if self.by else ""
        return _harmless(
            f"{self.generation:>5}  {self.at:%Y-%m-%d %H:%M:%S}Z  {what}{tail}{f': {why}' if why else ''}"
        )


def happenings(
    entries: Iterable[Entry], texts: dict[str, str]
) -> tuple[Happening, ...]:
    """The entries in their order, each with the model and the version that it is about."""
    begun: dict[int, ReleaseBegun] = {}
    told = []
    for entry in entries:
        if isinstance(entry.body, ReleaseBegun):
            begun[entry.generation] = entry.body
        told.append(_told(entry, begun, texts))
    return tuple(told)


def run_history(model: str | None, *, as_json: bool) -> int:
    """Print what happened, the newest last; where the ledger is broken, what is whole of it, and then the error."""
    ledger = read_ledger(_project().home)
    whole, error = _whole(ledger)
    for each in happenings(whole, _texts(ledger)):
        if model is None or each.model in {None, model}:
            say(each.model_dump_json() if as_json else each.line)
    if error is not None:
        raise error
    return 0


def run_verify(exported: Path | None, *, as_json: bool) -> int:
    """Verify the ledger, or an export of it; 0 where it is whole, 1 where it is not."""
    report = (
        _audit()
        if exported is None
        else verify_export(exported, known_heads(_project().home)[0])
    )
    if as_json:
        say(json.dumps({**report.model_dump(mode="json"), "is_whole": report.is_whole}))
    else:
        say(_sentence(report, "The ledger" if exported is None else str(exported)))
        for note in report.notes:
            is_alone = note == NOTHING_KNOWN and report.whole_up_to > 1
            say(f"Warning: {note}. {LOOK}" if is_alone else f"Note: {note}.")
    return 0 if report.is_whole else 1


def run_export(into: Path, *, with_reasons: bool) -> int:
    """Write an export, and keep a copy where the next audit finds it."""
    home = _project().home
    head = export(read_ledger(home), into, with_texts=with_reasons)
    keep_export(into, home)
    say(
        f"{into}: entries 1 to {head.generation}, head {head.hash}. Keep a copy away from this machine."
    )
    return 0


def run_acceptance(reason: str) -> int:
    """Have the ledger count as it is, where others remember more."""
    if not reason.strip():
        raise ParameterError(
            "--reason is empty. Say why in a sentence: it goes on record."
        )
    project = _project()
    read_ledger(project.home)  # one that is gone is restored, not accepted
    ledger = open_ledger(project.home)
    known, notes = _known(project, ledger)
    done = accept_head(
        ledger,
        known,
        Order(current_user(), reason.strip()[:2000], operating_system_account()),
    )
    for note in notes:
        say(f"Note: {note}.")
    for each in done.lost:
        say(f"Accepted as lost: entry {each.generation}, which {each.where} remembers.")
    for model, version in done.revoked:
        say(f"Revoked again: version {version} of {model}.")
    say(
        f"The ledger counts as it is, up to entry {done.generation}. The endpoint obeys it from its next look on."
    )
    return 0


def run_rotation(reason: str) -> int:
    """Replace the key that signs the ledger."""
    home = _project().home
    rotate(open_ledger(home), home, current_user(), reason, operating_system_account())
    say(
        f"Key {load_key(home).public.key_id[:12]} signs from now on; the one before it is revoked. Take a backup of {home / 'keys'}."
    )
    return 0


def run_erasure(digest: str) -> int:
    """Remove a reason; the ledger stays whole."""
    open_ledger(_project().home).erase(digest)
    say(
        f"The reason {digest[:12]} is erased. Backups and exports with reasons may still hold it."
    )
    return 0


def _project() -> Project:
    return find_project(Settings().home)


def _audit() -> AuditReport:
    project = _project()
    ledger = read_ledger(project.home)
    known, notes = _known(project, ledger)
    report = verify(ledger, known)
    faults = store_faults(project.home)
    if report.is_whole and faults:
        report = report.model_copy(update={"problem": " ".join(faults)})
    return report.model_copy(
        update={
            "notes": (*report.notes, *notes, *_key_notes(project.home, ledger, report))
        }
    )


def _known(
    project: Project, ledger: Ledger
) -> tuple[tuple[KnownHead, ...], tuple[str, ...]]:
    """Every head that is known from elsewhere, and what could not be looked at."""
    ours, unread = known_heads(project.home, _standing_of(ledger))
    ever: frozenset[str] = frozenset()
    with suppress(LedgerError):  # a row that is broken, which the audit says
        ever = keys_ever(ledger)
    theirs, unseen = page_heads(project, _standing_of(ledger), ever)
    witnessed, silent = witnessed_head(project.home, _standing_of(ledger))
    return (*ours, *theirs, *witnessed), (*unread, *unseen, *silent)


def witnessed_head(
    home: Path, ledger_state: "LedgerState | None"
) -> tuple[tuple[KnownHead, ...], tuple[str, ...]]:
    """What the witness remembers, and why not where it does not answer."""
    try:
        there = witness()
        found = (
            None if there is None else there.furthest(trusted_keys(home, ledger_state))
        )
    except LedgerError as error:
        return (), (str(error).rstrip("."),)
    heads = (
        ()
        if there is None or found is None
        else (KnownHead.of(found.record, there.name),)
    )
    return heads, ()


def _standing_of(ledger: Ledger) -> "LedgerState | None":
    """How things stand, for its keys; None where the ledger is broken, which the audit says."""
    with suppress(LedgerError):
        return ledger.state()
    return None


def page_heads(
    project: Project,
    ledger_state: "LedgerState | None" = None,
    ever: frozenset[str] = frozenset(),
) -> tuple[tuple[KnownHead, ...], tuple[str, ...]]:
    """What the version pages remember, and why not where MLflow does not answer at once."""
    if not is_mlflow_there(project):
        return (), ("version pages were not looked at: MLflow is not there",)
    set_library_environment()
    from registry.mlflow.home_store import open_store

    try:
        store = open_store(project)
        pages = store.pages_with(PAGE_TAG)
        told, edited = told_by_pages(
            store, trusted_keys(project.home, ledger_state), ever
        )
    except AssayError as error:
        return (), (f"version pages were not looked at: {error}",)
    heads, notes = (
        [KnownHead.of(each.sealed.record, each.where) for each in told],
        [each.rstrip(".") for each in edited],
    )
    for page, text in sorted(pages.items()):
        try:
            head = KnownHead.from_tag(text, f"the page of {page}")
            heads += (
                ()
                if any(
                    (each.where, each.hash) == (head.where, head.hash) for each in heads
                )
                else (head,)
            )
        except AssayError as error:
            notes.append(
                f"the page of {page} remembers no head that can be read: {error}"
            )
    return tuple(heads), tuple(notes)


def is_mlflow_there(project: Project) -> bool:
    """MLflow's database is there, or its server takes a connection."""
    try:
        return _answers(mlflow_address() or f"sqlite:///{project.home / 'mlflow.db'}")
    except (
        AssayError,
        ValueError,
    ):  # an address that cannot be read is said by whoever opens it
        return False


def _answers(uri: str) -> bool:
    """Said within seconds, where MLflow's own client would try for minutes."""
    parts = urlsplit(uri)
    if parts.scheme.startswith("sqlite"):
        return Path(uri.split(":///", 1)[-1]).is_file()
    try:
        with socket.create_connection(
            (
                parts.hostname or "",
                parts.port or (443 if parts.scheme == "https" else 80),
            ),
            SECONDS_FOR_MLFLOW,
        ):
            return True
    except OSError:
        return False


def _key_notes(home: Path, ledger: Ledger, report: AuditReport) -> tuple[str, ...]:
    if not report.is_whole:
        return ()
    try:
        key = load_key(home).public
    except LedgerError as error:
        return (str(error).rstrip("."),)
    trusted = ledger.state().key(key.key_id) is not None
    return (
        ()
        if trusted
        else (
            f"this machine's key {key.key_id[:12]} is not one that the ledger trusts: nothing can be written from here",
        )
    )


def _sentence(report: AuditReport, name: str) -> str:
    if report.is_whole and report.head is not None:
        seen = f"{report.known_heads} heads known from elsewhere agree"
        return f"{name} is whole: entries 1 to {report.head.generation}, head {report.head.hash}; {seen}."
    return f"{name} is not whole. {report.problem}"


def _whole(ledger: Ledger) -> tuple[tuple[Entry, ...], AssayError | None]:
    """The entries up to the first bad one, and what is wrong with that."""
    ledger_state: LedgerState | None = None
    whole: list[Entry] = []
    try:
        for entry in ledger.each_entry():
            ledger_state = follow(ledger_state, (entry,))
            whole.append(entry)
    except LedgerError as error:
        return tuple(whole), error
    return tuple(whole), None


def _told(
    entry: Entry, begun: dict[int, ReleaseBegun], texts: dict[str, str]
) -> Happening:
    body = entry.body
    model, version = _subject(body, begun)
    digest = getattr(body, "reason_sha256", None)
    return Happening(
        generation=entry.generation,
        at=entry.at,
        kind=body.kind,
        words=_words(body),
        model=model,
        version=version,
        by=getattr(body, "by", None),
        reason=None if digest is None else texts.get(digest),
        reason_sha256=digest,
    )


def _words(body: Body) -> str:
    if isinstance(body, Judged):
        return f"judged {body.verdict}"
    if isinstance(body, Waived):
        return f"rule {body.rule} waived until {body.until:%Y-%m-%d %H:%M}"
    return _WORDS[body.kind]


def _subject(
    body: Body, begun: dict[int, ReleaseBegun]
) -> tuple[str | None, str | None]:
    """Model and version that an entry is about."""
    if isinstance(body, Registered | Adopted | Judged | Revoked):
        return body.model, body.version
    if isinstance(body, BaseServed | Waived):
        return body.model, None
    if isinstance(body, ReleaseBegun):
        return body.release.model, body.release.version
    if isinstance(body, ReleaseSwitched | ReleaseCompleted | ReleaseAborted):
        return _subject(begun[body.begun], begun)
    if isinstance(body, RolledBack):
        return _subject(begun[body.to], begun)
    return None, None


def _texts(ledger: Ledger) -> dict[str, str]:
    kept = ledger.texts()
    return {
        digest: text if sha256(text.encode()).hexdigest() == digest else _EDITED
        for digest, text in kept.items()
    }


def _harmless(text: str) -> str:
    """Without line ends and control characters: a reason was typed by somebody."""
    return "".join(
        letter
        if letter.isprintable()
        else " "
        if letter.isspace()
        else f"\\u{ord(letter):04x}"
        for letter in text
    )
