"""Which step of a canary may follow which, and that nothing gets full traffic before its last one.

Steps of `registry.ledger.rules`.
"""

from core.account import Signed, group_by_person
from registry.ledger.entries import (
    CanaryPaused,
    CanaryResumed,
    CanarySkipped,
    CanaryStep,
    Entry,
    Release,
)
from registry.ledger.state import (
    CanaryProgress,
    LedgerState,
    ModelState,
    RecordedRelease,
)
from registry.ledger.steps import illegal, pending_release, with_model


def first_progress(release: Release) -> CanaryProgress | None:
    """The canary of a release that begins; None where none is declared."""
    # Without a plan it has all traffic at once, and there is nothing to count.
    if release.canary is None:
        return None
    return CanaryProgress()


def needs_canary(model: ModelState, release: Release) -> bool:
    """Whether a release of the model is tried on a share of the traffic before its switch."""
    # Before the first release nobody asks, and there is nothing to compare with.
    return release.canary is not None and bool(model.once_served)


def canary_step(
    ledger_state: LedgerState, entry: Entry, body: CanaryStep
) -> LedgerState:
    """Give the candidate the weight of the next step."""
    pending, progress = _running(
        ledger_state,
        entry,
        body.begun,
    )
    plan = pending.release.canary
    # Each step in its turn: a weight that is left out was not tried.
    due = None if plan is None else plan.weight_after(progress.weight)
    if due is None or body.weight != due:
        expected = "the switch" if due is None else f"a weight of {due} %"
        raise illegal(
            entry,
            f"after {_describe_weight(progress)} comes {expected}, not {body.weight} %",
        )
    _check_not_paused(entry, progress)
    step = CanaryProgress(
        step=entry.generation,
        weight=body.weight,
    )
    return _with_progress(ledger_state, pending, step)


def canary_paused(
    ledger_state: LedgerState, entry: Entry, body: CanaryPaused
) -> LedgerState:
    """Note that a step waits for traffic."""
    pending, progress = _running(
        ledger_state,
        entry,
        body.begun,
    )
    if progress.step is None:
        raise illegal(entry, "its canary has not begun")
    _check_not_paused(entry, progress)
    paused = progress.model_copy(update={"paused": entry.generation})
    return _with_progress(ledger_state, pending, paused)


def canary_resumed(
    ledger_state: LedgerState, entry: Entry, body: CanaryResumed
) -> LedgerState:
    """Note that the step has traffic again."""
    pending, progress = _running(
        ledger_state,
        entry,
        body.begun,
    )
    if progress.paused is None:
        raise illegal(entry, "its canary is not paused")
    resumed = progress.model_copy(update={"paused": None})
    return _with_progress(ledger_state, pending, resumed)


def canary_skipped(
    ledger_state: LedgerState, entry: Entry, body: CanarySkipped
) -> LedgerState:
    """Let the release switch early: somebody else than who began it answers for that."""
    pending, progress = _running(
        ledger_state,
        entry,
        body.begun,
    )
    beginner = _signed(pending.by, pending.account)
    second = _signed(body.by, body.account)
    # Whoever began it wants it out, and is the last who should judge that.
    if len(group_by_person((beginner, second))) < 2:
        raise illegal(
            entry,
            f"{body.by} began the release, and a second person has to skip its canary",
        )
    skipped = progress.model_copy(update={"skipped": entry.generation})
    return _with_progress(ledger_state, pending, skipped)


def check_canary_is_over(
    ledger_state: LedgerState, entry: Entry, pending: RecordedRelease
) -> None:
    """`IllegalEntry` where a release would switch before the last step of its canary."""
    model = ledger_state.model(pending.release.model)
    plan, progress = pending.release.canary, pending.canary
    is_needed = needs_canary(model, pending.release)
    if plan is None or progress is None or not is_needed:
        return
    if progress.skipped is not None:
        return
    # A driver with an older policy in mind must not switch early.
    if plan.weight_after(progress.weight) is not None:
        raise illegal(
            entry, f"its canary stands at {_describe_weight(progress)}, not at its end"
        )
    _check_not_paused(entry, progress)


def _running(
    ledger_state: LedgerState, entry: Entry, begun: int
) -> tuple[RecordedRelease, CanaryProgress]:
    """The release on its way and its canary; `IllegalEntry` where it has none or it is skipped."""
    pending = pending_release(ledger_state, entry, begun)
    progress = pending.canary
    model = ledger_state.model(pending.release.model)
    if progress is None or not needs_canary(model, pending.release):
        raise illegal(
            entry,
            f"the release that began at entry {begun} has no canary",
        )
    if progress.skipped is not None:
        raise illegal(
            entry,
            f"its canary was skipped at entry {progress.skipped}",
        )
    return pending, progress


def _check_not_paused(entry: Entry, progress: CanaryProgress) -> None:
    if progress.paused is not None:
        raise illegal(
            entry,
            f"its canary is paused since entry {progress.paused}",
        )


def _describe_weight(progress: CanaryProgress) -> str:
    return "the beginning" if progress.weight is None else f"{progress.weight} %"


def _signed(name: str, account: str | None) -> Signed:
    # An account that is not on record is its own: nobody shares it.
    return Signed(
        name,
        account or f"unknown of {name}",
    )


def _with_progress(
    ledger_state: LedgerState, pending: RecordedRelease, progress: CanaryProgress
) -> LedgerState:
    changed = pending.model_copy(update={"canary": progress})
    return with_model(
        ledger_state,
        pending.release.model,
        pending=changed,
    )
