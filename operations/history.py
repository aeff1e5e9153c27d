"""What was judged, released, rolled back and braked: when, on whose word and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from core.errors import AssayError, LedgerError
from core.project import find_project
from core.settings import Settings
from core.value import Value
from registry.ledger.chain import follow
from registry.ledger.entries import (
    Adopted,
    ApprovalWithdrawn,
    Approved,
    BaseServed,
    BlockClosed,
    BlockOpened,
    Body,
    CanaryPaused,
    CanaryResumed,
    CanarySkipped,
    CanaryStep,
    Entry,
    Judged,
    KeyAdded,
    KeyRevoked,
    ModelRated,
    OriginSeen,
    Rated,
    Received,
    Registered,
    ReleaseAborted,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
    Rescored,
    ReviewOpened,
    Revoked,
    RolledBack,
    Waived,
    WishClosed,
    Wished,
)
from registry.ledger.ledger import Ledger, read_ledger

if TYPE_CHECKING:
    from registry.ledger.state import LedgerState

_ERASED, _EDITED = "reason erased", "reason edited by hand"
# What a person reads for each kind of entry; other kinds carry more than their name.
_WORDS = {
    "opened": "ledger opened",
    "key_added": "key added",
    "key_revoked": "key revoked",
    "registered": "registered",
    "adopted": "adopted",
    "wished": "wish for",
    "wish_closed": "wish refused",
    "approved": "approved",
    "approval_withdrawn": "approval withdrawn",
    "release_begun": "release begun",
    "canary_paused": "canary paused without traffic",
    "canary_resumed": "canary resumed",
    "canary_skipped": "canary skipped",
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


_NAMED = (
    Registered
    | Adopted
    | Received
    | Judged
    | Rescored
    | Wished
    | Approved
    | ApprovalWithdrawn
    | ReviewOpened
    | Rated
    | ModelRated
    | Revoked
)
"""Entries that name a version themselves."""
_OF_A_RELEASE = (
    CanaryStep
    | CanaryPaused
    | CanaryResumed
    | CanarySkipped
    | ReleaseSwitched
    | ReleaseCompleted
    | ReleaseAborted
)
"""Entries that name the entry at which their release began."""


class HistoryEntry(Value):
    """One ledger entry, as a person reads it."""

    generation: int
    at: datetime
    kind: str
    words: str
    model: str | None
    version: str | None
    by: str | None
    reason: str | None
    """None where no reason was asked for, or where it was erased and only its SHA-256 is left."""
    reason_sha256: str | None

    @property
    def line(self) -> str:
        """The entry on one line; characters that a terminal would obey are spelt out."""
        at = f"{self.at:%Y-%m-%d %H:%M:%S}Z"
        subject = (self.words, self.model, self.version)
        line = f"{self.generation:>5}  {at}  "
        line += " ".join(part for part in subject if part)
        if self.by:
            line += f" by {self.by}"
        if self.reason:
            line += f": {self.reason}"
        # There was a reason, and its text is no longer kept.
        elif self.reason_sha256:
            line += f": {_ERASED}"
        return _spell_out(line)


@dataclass(frozen=True)
class History:
    """The verified entries of the ledger, and what is wrong with the entry after them."""

    entries: tuple[HistoryEntry, ...]
    error: AssayError | None


def read_history(model: str | None) -> History:
    """Read the ledger of this project's home up to its first bad entry, the newest last.

    With a model: its entries, and those that are about no model. `LedgerError` where there is no
    ledger.
    """
    ledger = read_ledger(find_project(Settings().home).home)
    verified, error = _verified_entries(ledger)
    entries = history_entries(verified, _texts(ledger))
    if model is not None:
        entries = tuple(entry for entry in entries if entry.model in {None, model})
    return History(entries, error)


def history_entries(
    entries: Iterable[Entry], texts: dict[str, str]
) -> tuple[HistoryEntry, ...]:
    """Describe entries in their order, each with the model and the version that it is about.

    `texts` holds the reasons by their SHA-256.
    """
    begun: dict[int, ReleaseBegun | Wished] = {}
    described = []
    for entry in entries:
        # Later entries of a release or a wish name the one that began it, which holds model and
        # version.
        if isinstance(entry.body, ReleaseBegun | Wished):
            begun[entry.generation] = entry.body
        described.append(_describe(entry, begun, texts))
    return tuple(described)


def _verified_entries(
    ledger: Ledger,
) -> tuple[tuple[Entry, ...], AssayError | None]:
    """Give the entries up to the first bad one, and what is wrong with that."""
    ledger_state: LedgerState | None = None
    verified: list[Entry] = []
    try:
        for entry in ledger.iterate_entries():
            # Follows signature, hash and rules, so an entry that is listed is verified.
            ledger_state = follow(ledger_state, (entry,))
            verified.append(entry)
    except LedgerError as error:
        # What was verified before the bad entry is still worth reading.
        return tuple(verified), error
    return tuple(verified), None


def _describe(
    entry: Entry, begun: dict[int, ReleaseBegun | Wished], texts: dict[str, str]
) -> HistoryEntry:
    body = entry.body
    model, version = _subject(body, begun)
    # Some kinds of entries have no author and no reason.
    digest = getattr(body, "reason_sha256", None)
    reason = None if digest is None else texts.get(digest)
    return HistoryEntry(
        generation=entry.generation,
        at=entry.at,
        kind=body.kind,
        words=_words(body),
        model=model,
        version=version,
        by=getattr(body, "by", None),
        reason=reason,
        reason_sha256=digest,
    )


def _words(body: Body) -> str:
    if isinstance(body, Judged | Rescored):
        is_again = isinstance(body, Rescored)
        return (
            f"scored again, {body.verdict}:" if is_again else f"judged {body.verdict}"
        )
    if isinstance(body, BlockOpened | BlockClosed):
        return _words_on_block(body)
    if isinstance(body, CanaryStep | Waived):
        return _words_with_number(body)
    if isinstance(body, Received | OriginSeen):
        return _words_on_origin(body)
    if isinstance(body, ReviewOpened | Rated | ModelRated):
        return _words_on_review(body)
    return _special_words(body) or _WORDS[body.kind]


def _words_with_number(body: CanaryStep | Waived) -> str:
    if isinstance(body, CanaryStep):
        return f"canary at {body.weight} %"
    return f"rule {body.rule} waived until {body.until:%Y-%m-%d %H:%M}"


def _words_on_block(body: BlockOpened | BlockClosed) -> str:
    """Name the confirmation, or what the opened block showed."""
    if isinstance(body, BlockOpened):
        number = f"confirmation {body.number} of the year"
        return f"{number} begun, at level {body.level:.4f}"
    result = "confirmed" if body.is_confirmed else "not confirmed"
    return f"{result} by the block of entry {body.opened}"


def _words_on_origin(body: Received | OriginSeen) -> str:
    """Name the other installation, and how far its ledger went."""
    origin = body.origin
    ledger = origin.ledger_id[:12]
    place = f"{origin.name}, whose ledger {ledger} goes to entry"
    if isinstance(body, Received):
        version = f"received from {place} {origin.generation}, as version"
        return f"{version} {body.version_there} there:"
    count = len(body.revoked_adapters)
    news = f", {count} of what came from there revoked" if count else ""
    return f"read the ledger of {place} {origin.generation}{news}"


def _words_on_review(body: ReviewOpened | Rated | ModelRated) -> str:
    """Say who was asked, or who rated."""
    if isinstance(body, Rated):
        return f"rated by {body.raters} people:"
    if isinstance(body, ModelRated):
        return f"{body.items} answers rated by a language model:"
    asked = "" if body.reviewers else " by a language model"
    return f"review{asked} opened of"


def _special_words(body: Body) -> str:
    """Words for an entry that is not what its kind is most often; empty for all others."""
    if isinstance(body, WishClosed) and body.by is not None:
        return "wish taken back"
    if isinstance(body, KeyAdded) and body.key.role != "controller":
        return f"{body.key.role} key added"
    if isinstance(body, KeyRevoked) and body.is_compromised:
        return "key revoked as compromised"
    return ""


def _subject(
    body: Body, begun: dict[int, ReleaseBegun | Wished]
) -> tuple[str | None, str | None]:
    """Give the model and the version that an entry is about."""
    if isinstance(body, _NAMED):
        return body.model, body.version
    if isinstance(body, BaseServed | Waived):
        return body.model, None
    if isinstance(body, ReleaseBegun):
        return body.release.model, body.release.version
    generation = _beginning_of(body)
    if generation is not None:
        return _subject(begun[generation], begun)
    return None, None


def _beginning_of(body: Body) -> int | None:
    """The entry that began what this one is about, where it names no version itself."""
    if isinstance(body, _OF_A_RELEASE):
        return body.begun
    if isinstance(body, RolledBack):
        return body.to
    if isinstance(body, WishClosed):
        return body.wished
    return None


def _texts(ledger: Ledger) -> dict[str, str]:
    """Give the kept reasons by digest; one that does not match its digest was edited by hand."""
    return {
        digest: text if sha256(text.encode()).hexdigest() == digest else _EDITED
        for digest, text in ledger.texts().items()
    }


def _spell_out(text: str) -> str:
    """Replace line ends and control characters: somebody typed the reason."""
    letters = [_spell_out_letter(letter) for letter in text]
    return "".join(letters)


def _spell_out_letter(letter: str) -> str:
    if letter.isprintable():
        return letter
    if letter.isspace():
        return " "
    return f"\\u{ord(letter):04x}"
