"""A release manager's wish: entered into the ledger, and waited for until it is answered.

The controller answers: it judges the version, begins its release or goes back to it, or closes the
wish with the reason (`flows/wishes.py`).
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from core.account import UNKNOWN_ACCOUNT
from core.errors import BrokenLedger, IllegalEntry, LedgerError
from registry.ledger.entries import (
    Entry,
    ReleaseAborted,
    ReleaseBegun,
    RolledBack,
    WishClosed,
    Wished,
)
from registry.ledger.ledger import Ledger
from registry.ledger.rules import apply_entry, start_state
from registry.ledger.state import (
    LedgerState,
    ModelState,
    RecordedRelease,
    RecordedWish,
)
from registry.release.context import ChangeRequest, append, attribute

_SECONDS_BETWEEN_LOOKS = 0.1
_ATTEMPTS_TO_TAKE_BACK = 5
_NOBODY_ANSWERED = (
    "nobody answered within {seconds:.0f} s, so the wish was taken back. "
    "Look whether the controller runs: `assay status`"
)
_TOOK_TOO_LONG = (
    "it was not judged within {seconds:.0f} s, so the wish was taken back. "
    "`assay promote` waits for as long as it takes"
)
_GRANTING = ReleaseBegun | RolledBack | ReleaseAborted


@dataclass(frozen=True)
class Answer:
    """What became of a wish: `text` is the reason where it was not granted."""

    is_granted: bool
    text: str


@dataclass(frozen=True)
class Subject:
    """The version that is to serve, and the bytes that its page is about."""

    model: str
    version: str
    package_sha256: str | None = None


@dataclass(frozen=True)
class WishDesk:
    """Where wishes are handed in: the ledger, the controller's doorbell, and how long to wait."""

    ledger: Ledger
    ring: Callable[[], bool]
    """Whether a controller heard it."""
    seconds: float = 60.0
    """For as long nobody need hear a ring."""
    longest: float = 900.0
    """For as long a controller that hears may judge."""
    seconds_between_rings: float = 5.0

    def hand_in(self, subject: Subject, request: ChangeRequest) -> Answer:
        """Enter the wish, ring, and wait for the answer.

        A wish that nobody answers in time is taken back, so that it is not granted later, unseen.
        `LedgerError` where the ledger can neither be read nor written.
        """
        before = self.ledger.state().model(subject.model)
        if _is_fulfilled(before, subject):
            text = f"version {subject.version} is released already"
            return Answer(is_granted=True, text=text)
        attribution = attribute(request, self.ledger)
        wish = Wished(
            model=subject.model,
            version=subject.version,
            package_sha256=subject.package_sha256,
            **attribution,
        )
        try:
            ledger_state = append(self.ledger, lambda _: wish)
        except IllegalEntry as error:
            return Answer(is_granted=False, text=str(error))
        generation = ledger_state.head.generation
        return self._wait(generation, request)

    def _wait(self, generation: int, request: ChangeRequest) -> Answer:
        began = time.monotonic()
        next_ring = last_sign = began
        while True:
            answer = find_answer(self.ledger, generation)
            if answer is not None:
                return answer
            now = time.monotonic()
            # A ring that is lost costs a round of the controller's timer.
            if now >= next_ring:
                next_ring = now + self.seconds_between_rings
                # A controller that hears may judge evidence of any size.
                last_sign = now if self.ring() else last_sign
            waited = now - began
            if now - last_sign > self.seconds:
                text = _NOBODY_ANSWERED.format(seconds=waited)
                return self._take_back(generation, request, text)
            if waited > self.longest:
                text = _TOOK_TOO_LONG.format(seconds=waited)
                return self._take_back(generation, request, text)
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _take_back(self, generation: int, request: ChangeRequest, text: str) -> Answer:
        """Close the wish; where it was answered just now, that answer counts."""
        closed = WishClosed(
            wished=generation,
            reason_sha256=self.ledger.remember(text),
            by=request.by,
            account=request.account,
        )
        for _ in range(_ATTEMPTS_TO_TAKE_BACK):
            # It may have been answered meanwhile, or superseded.
            with suppress(IllegalEntry):
                append(self.ledger, lambda _: closed)
            answer = find_answer(self.ledger, generation)
            if answer is not None:
                return answer
        raise LedgerError(
            f"The wish of entry {generation} could not be taken back. "
            "`assay history` says what became of it."
        )


def find_answer(ledger: Ledger, generation: int) -> Answer | None:
    """What became of the wish of that entry; None while it is open.

    `BrokenLedger` where the ledger does not hold that entry any more.
    """
    if _is_open(ledger.state(), generation):
        return None
    # Folded once more, and only now: which entry ended the wish is what the rules say.
    ledger_state: LedgerState | None = None
    model = ""
    for entry in ledger.iterate_entries():
        ledger_state = _fold(ledger_state, entry)
        if entry.generation < generation:
            continue
        if entry.generation == generation:
            model = getattr(entry.body, "model", "")
            continue
        wish = ledger_state.model(model).wish
        if wish is None or wish.generation != generation:
            return _answer_in(ledger, entry, generation)
    if not model:
        raise BrokenLedger(
            f"The ledger does not hold the wish of entry {generation}. "
            "Restore it from a backup or an export."
        )
    return None


def _is_open(ledger_state: LedgerState, generation: int) -> bool:
    wishes = [model.wish for model in ledger_state.models.values()]
    return any(wish is not None and wish.generation == generation for wish in wishes)


def _fold(ledger_state: LedgerState | None, entry: Entry) -> LedgerState:
    if ledger_state is None:
        return start_state(entry)
    return apply_entry(ledger_state, entry)


def _answer_in(ledger: Ledger, entry: Entry, generation: int) -> Answer:
    """What the entry that ended the wish says of it."""
    body = entry.body
    # A release that a command began ends a wish for its own version alone, and so fulfils it.
    is_granted = isinstance(body, ReleaseBegun)
    if isinstance(body, _GRANTING) and body.wished == generation:
        is_granted = True
    if is_granted:
        return Answer(is_granted=True, text=f"entry {entry.generation}")
    if isinstance(body, WishClosed) and body.wished == generation:
        reason = ledger.recall(body.reason_sha256) or "its reason was erased"
        return Answer(is_granted=False, text=reason)
    by = getattr(body, "by", None)
    person = f" by {by}" if by else ""
    text = f"entry {entry.generation} ({body.kind}{person}) came first"
    return Answer(is_granted=False, text=text)


def is_of_nobody_known(wish: RecordedWish, ledger_state: LedgerState) -> bool:
    """Whether the controller itself entered the wish, for an alias that nobody admitted."""
    key = ledger_state.key(wish.key_id)
    if key is None:
        return False
    # The key and not a name: anybody may call themselves the controller.
    is_controllers = key.role == "controller"
    is_unknown = wish.account == UNKNOWN_ACCOUNT
    return is_controllers and is_unknown


def is_of(recorded: RecordedRelease, version: str, package_sha256: str | None) -> bool:
    """Whether a release is of that version, and of the bytes that are named, if any are."""
    release = recorded.release
    # MLflow's numbers begin again at 1 where it was lost.
    is_same_package = package_sha256 in {None, release.package_sha256}
    return release.version == version and is_same_package


def _is_fulfilled(model_state: ModelState, subject: Subject) -> bool:
    """Whether that version is what was released last, and nothing else is wanted."""
    # Somebody else wants something, so that this one has to be asked as well.
    if model_state.wish is not None:
        return False
    released_last = model_state.pending or model_state.answering
    if released_last is None:
        return False
    return is_of(released_last, subject.version, subject.package_sha256)
