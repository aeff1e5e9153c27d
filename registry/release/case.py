"""One case: its steps, whether it is still open, and how an entry ended it."""

from typing import Literal

from pydantic import AwareDatetime

from core.value import Value
from registry.ledger.entries import (
    BaseServed,
    Body,
    CanaryPaused,
    CanaryResumed,
    CanarySkipped,
    CanaryStep,
    Entry,
    Judged,
    ReleaseAborted,
    ReleaseCompleted,
    ReleaseSwitched,
    RolledBack,
    WishClosed,
)
from registry.ledger.state import ModelState

Ending = Literal["completed", "failed", "cancelled"]
_NOBODY = "controller"
"""Who enters what no person asked for."""


class CaseStep(Value):
    """One step of a case: from when to when, and what came of it."""

    entry: int
    """The entry at which it began, or that is all of it."""
    name: str
    began: AwareDatetime
    ended: AwareDatetime | None = None
    has_failed: bool = False
    verdict_sha256: str | None = None
    """Of what `judge` answered."""


class CaseEnd(Value):
    """How a case ended, in a word, and by which entry."""

    entry: int
    at: AwareDatetime
    ending: Ending
    word: str
    by: str | None = None
    reason_sha256: str | None = None


class Case(Value):
    """What somebody asked for, and what became of it."""

    entry: int
    """The entry that began it, which names it for good."""
    model: str
    version: str
    act: Literal["release", "rollback"]
    at: AwareDatetime
    by: str
    reason_sha256: str | None = None
    begun: int | None = None
    """The entry at which its release began."""
    steps: tuple[CaseStep, ...] = ()
    end: CaseEnd | None = None

    @property
    def name(self) -> str:
        """As a list of runs shows it."""
        words = (
            self.act,
            self.model,
            self.version,
        )
        return " ".join(words)


def awaits(case: Case, body: Judged) -> bool:
    """Whether the case is a wish for the version that was judged."""
    if case.begun is not None:
        return False
    is_same_model = case.model == body.model
    return is_same_model and case.version == body.version


def is_open(case: Case, model: ModelState) -> bool:
    """Whether more of the case is to come, by the ledger's state of its model."""
    wish = model.wish
    if case.begun is None:
        return wish is not None and wish.generation == case.entry
    # Before the switch it is pending; after it, it answers until it is completed.
    pending = model.pending
    if pending is not None and pending.begun == case.begun:
        return True
    answering = model.answering
    # The base answers, or nothing.
    if answering is None:
        return False
    if answering.begun != case.begun:
        return False
    return not answering.is_completed


def with_step(case: Case, entry: Entry) -> Case:
    """The case with the step that the entry begins, where it is about this case."""
    body = entry.body
    begun = getattr(body, "begun", None)
    # A wish has no release yet, and most entries have none either.
    if begun is None or begun != case.begun:
        return case
    if isinstance(body, CanaryPaused | CanaryResumed | CanarySkipped):
        moment = _moment(entry)
        return and_step(case, moment)
    name = _step_name(body)
    if not name:
        return case
    step = CaseStep(
        entry=entry.generation,
        name=name,
        began=entry.at,
    )
    before = _close_step(
        case,
        entry,
        has_failed=False,
    )
    return and_step(before, step)


def _step_name(body: Body) -> str:
    """The step that the entry begins; empty where it begins none."""
    # Pauses and skips are moments within a step, and end none.
    if isinstance(body, CanaryStep):
        return f"canary at {body.weight} %"
    if isinstance(body, ReleaseSwitched):
        return "full traffic"
    return ""


def _moment(entry: Entry) -> CaseStep:
    body = entry.body
    words = body.kind.replace("_", " ")
    return CaseStep(
        entry=entry.generation,
        name=words,
        began=entry.at,
        ended=entry.at,
    )


def _close_step(case: Case, entry: Entry, *, has_failed: bool) -> Case:
    closed = {
        "ended": entry.at,
        "has_failed": has_failed,
    }
    steps = []
    for step in case.steps:
        # At most one is open: each begins where the one before it ends.
        is_running = step.ended is None
        kept = step
        if is_running:
            kept = step.model_copy(update=closed)
        steps.append(kept)
    update = {"steps": tuple(steps)}
    return case.model_copy(update=update)


def and_step(case: Case, step: CaseStep) -> Case:
    """The case with one more step."""
    steps = (
        *case.steps,
        step,
    )
    update = {"steps": steps}
    return case.model_copy(update=update)


def ended(case: Case, entry: Entry) -> Case:
    """The case as the entry ended it."""
    body = entry.body
    ending, word = _ending(case, body)
    end = CaseEnd(
        entry=entry.generation,
        at=entry.at,
        ending=ending,
        word=word,
        by=getattr(body, "by", None),
        reason_sha256=getattr(body, "reason_sha256", None),
    )
    # The step in which it ended is the one that failed.
    closed = _close_step(
        case,
        entry,
        has_failed=ending != "completed",
    )
    update = {"end": end}
    return closed.model_copy(update=update)


def _ending(case: Case, body: Body) -> tuple[Ending, str]:
    """What the entry is to the case that it ended, in a word."""
    by = getattr(body, "by", None)
    wished = getattr(body, "wished", None)
    if isinstance(body, ReleaseCompleted):
        return "completed", "Released"
    if isinstance(body, WishClosed):
        return _CLOSED[by is None]
    # Back to what served, or what answers goes on: the release on its way was stopped.
    if case.begun is None and wished == case.entry:
        return "completed", "WentBack"
    if isinstance(body, ReleaseAborted) and by is None:
        return "failed", "Aborted"
    # What no person ordered went wrong.
    is_way_back = isinstance(body, RolledBack | BaseServed)
    if is_way_back and by == _NOBODY:
        return "failed", "RolledBack"
    return _WORDS.get(body.kind, _STOPPED)


_STOPPED: tuple[Ending, str] = ("cancelled", "Stopped")
_CLOSED: dict[bool, tuple[Ending, str]] = {
    True: ("failed", "Refused"),
    False: ("cancelled", "TakenBack"),
}
"""A wish that was closed, by whether no person took it back."""
_WORDS: dict[str, tuple[Ending, str]] = {
    "wished": ("cancelled", "Superseded"),
    "release_begun": ("cancelled", "Superseded"),
    "rolled_back": ("cancelled", "RolledBack"),
    "frozen": ("cancelled", "Frozen"),
    "revoked": ("cancelled", "Revoked"),
}
"""Whatever else a person does to a model that something is asked of."""
