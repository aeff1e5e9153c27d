"""A release manager's wish: entered into the ledger, and waited for until it is answered.

The controller answers: it judges the version, begins its release or goes back to it, or closes the
wish with the reason (`flows/wishes.py`).
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from core.errors import IllegalEntry, LedgerError
from registry.ledger.entries import (
    Body,
    Entry,
    ReleaseAborted,
    ReleaseBegun,
    RolledBack,
    WishClosed,
    Wished,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import ModelState
from registry.release.context import ChangeRequest, append, attribute

_SECONDS_BETWEEN_LOOKS = 0.1
_ATTEMPTS_TO_TAKE_BACK = 5
_GRANTING = ReleaseBegun | RolledBack | ReleaseAborted


@dataclass(frozen=True)
class Answer:
    """What became of a wish: `text` is the reason where it was not granted."""

    is_granted: bool
    text: str


@dataclass(frozen=True)
class WishDesk:
    """Where wishes are handed in: the ledger, the controller's doorbell, and how long to wait."""

    ledger: Ledger
    ring: Callable[[], object]
    seconds: float = 60.0

    def hand_in(self, model: str, version: str, request: ChangeRequest) -> Answer:
        """Enter the wish, ring, and wait for the answer.

        A wish that nobody answers in time is taken back, so that it is not granted later, unseen.
        `LedgerError` where the ledger can neither be read nor written.
        """
        before = self.ledger.state().model(model)
        if _is_fulfilled(before, version):
            return Answer(
                is_granted=True, text=f"version {version} is released already"
            )
        attribution = attribute(request, self.ledger)
        wish = Wished(model=model, version=version, **attribution)
        try:
            ledger_state = append(self.ledger, lambda _: wish)
        except IllegalEntry as error:
            return Answer(is_granted=False, text=str(error))
        generation = ledger_state.head.generation
        # A ring that is lost costs a round of the controller's timer.
        self.ring()
        return self._wait(generation, request)

    def _wait(self, generation: int, request: ChangeRequest) -> Answer:
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            answer = find_answer(self.ledger, generation)
            if answer is not None:
                return answer
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return self._take_back(generation, request)

    def _take_back(self, generation: int, request: ChangeRequest) -> Answer:
        """Close the wish; where it was answered just now, that answer counts."""
        text = (
            f"nobody answered within {self.seconds:g} s, so the wish was taken back. "
            "Look whether the controller runs: `assay status`"
        )
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
    """What became of the wish of that entry; None while it is open."""
    (wish, *later) = ledger.entries(after=generation - 1)
    model = getattr(wish.body, "model", "")
    ledger_state = ledger.state()
    open_wish = ledger_state.model(model).wish
    if open_wish is not None and open_wish.generation == generation:
        return None
    # The first entry that ends it is its answer; later ones are about later wishes.
    for entry in later:
        answer = _answer_in(ledger, entry, generation, model)
        if answer is not None:
            return answer
    # The entries were read just before the state: the next look finds the answer.
    return None


def _answer_in(
    ledger: Ledger, entry: Entry, generation: int, model: str
) -> Answer | None:
    body = entry.body
    if isinstance(body, _GRANTING) and body.wished == generation:
        return Answer(is_granted=True, text=f"entry {entry.generation}")
    if isinstance(body, WishClosed) and body.wished == generation:
        reason = ledger.recall(body.reason_sha256) or "its reason was erased"
        return Answer(is_granted=False, text=reason)
    if _ends_wishes(body, model):
        person = getattr(body, "by", "the controller")
        text = f"entry {entry.generation} ({body.kind} by {person}) came first"
        return Answer(is_granted=False, text=text)
    return None


def _ends_wishes(body: Body, model: str) -> bool:
    """Whether the entry may have ended another's open wish of that model."""
    # A freeze names no model: it ends the wishes of all.
    if body.kind == "frozen":
        return True
    if body.kind not in {"wished", "rolled_back", "base_served", "revoked"}:
        return isinstance(body, ReleaseBegun) and body.release.model == model
    return bool(getattr(body, "model", None) == model)


def _is_fulfilled(model_state: ModelState, version: str) -> bool:
    """Whether that version is what was released last, and nothing else is wanted."""
    # Somebody else wants something, so that this one has to be asked as well.
    if model_state.wish is not None:
        return False
    released_last = model_state.pending or model_state.answering
    if released_last is None:
        return False
    return released_last.release.version == version
