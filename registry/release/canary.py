"""What comes next in a canary and in the time after the switch, by what the endpoint counts.

All time is the endpoint's: it counts on a monotonic clock, which no setting of a clock changes and
which a driver that is killed does not take with it. Only change windows ask for the time of day.
"""

from dataclasses import dataclass
from datetime import datetime

from pipelines.values.canary import CanaryPlan
from registry.ledger.canary import needs_canary
from registry.ledger.entries import (
    Body,
    CanaryPaused,
    CanaryResumed,
    CanaryStep,
    ReleaseAborted,
    ReleaseCompleted,
    ReleaseSwitched,
    RolledBack,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import CanaryProgress, ModelState, RecordedRelease
from registry.release.canary_counts import CanaryReport
from registry.release.canary_signals import (
    SignalFinding,
    decide,
    describe_findings,
    find_signals,
)

_DRIVER = "controller"


@dataclass(frozen=True)
class Watch:
    """What a step needs beside the counts: where reasons are kept, and the time of day."""

    ledger: Ledger
    now: datetime


@dataclass(frozen=True)
class _Step:
    """One look at a canary that runs."""

    pending: RecordedRelease
    plan: CanaryPlan
    progress: CanaryProgress
    report: CanaryReport
    watch: Watch

    @property
    def is_quiet(self) -> bool:
        """Whether the candidate answered nothing for as long as a step takes at least."""
        return self.report.quiet_seconds >= self.plan.window_s

    @property
    def is_overdue(self) -> bool:
        """Whether it was quiet for longer than a pause may be."""
        limit = self.plan.window_s + self.plan.max_pause_s
        return self.report.quiet_seconds >= limit

    @property
    def has_enough(self) -> bool:
        """Whether the step took its time and saw its requests."""
        is_long_enough = self.report.step_seconds >= self.plan.window_s
        return is_long_enough and self.report.step_requests >= self.plan.least_requests


def next_of_canary(
    model_state: ModelState,
    pending: RecordedRelease,
    report: CanaryReport | None,
    watch: Watch,
) -> Body | None:
    """The entry that comes next for a release that is loaded; None is to wait."""
    plan, progress = pending.release.canary, pending.canary
    has_been_skipped = progress is not None and progress.skipped is not None
    is_needed = needs_canary(model_state, pending.release)
    is_over = has_been_skipped or not is_needed
    # Without a canary, or past it, a loaded release gets everything at once.
    if plan is None or progress is None or is_over:
        return ReleaseSwitched(begun=pending.begun)
    # Counts of a step before this one are another step's.
    if report is None or report.stage != "canary" or report.step != progress.step:
        return None
    # A candidate that is compared with nothing could only be let through.
    if report.baseline_phase == "failed":
        reason = f"what it is compared with ended: {report.baseline_detail}"
        return _abort(pending, reason, watch)
    step = _Step(
        pending,
        plan,
        progress,
        report,
        watch,
    )
    if progress.step is None:
        return _first_step(step)
    return _running_step(step)


def next_of_bake(
    model_state: ModelState,
    current: RecordedRelease,
    report: CanaryReport | None,
    watch: Watch,
) -> RolledBack | ReleaseCompleted | None:
    """What comes after the switch of a release that answers; None is to wait."""
    plan, before = current.release.canary, model_state.before
    if plan is None or before is None or plan.bake_s == 0:
        return ReleaseCompleted(begun=current.begun)
    # Nobody counts: that it answers is not all that was asked for.
    if report is None or report.stage != "bake":
        return None
    findings = find_signals(plan, report)
    if decide(findings) == "abort":
        facts = describe_findings(findings, "worse")
        reason = f"version {current.release.version} is worse since the switch: {facts}"
        return RolledBack(
            model=current.release.model,
            to=before.begun,
            by=_DRIVER,
            reason_sha256=watch.ledger.remember(reason),
        )
    # In this order: what is worse at the last moment is still rolled back.
    if report.step_seconds >= plan.bake_s:
        return ReleaseCompleted(begun=current.begun)
    return None


def describe_canary(
    model_state: ModelState, report: CanaryReport | None, now: datetime
) -> str | None:
    """Where a canary stands and what it waits for, as a sentence; None where none runs."""
    if model_state.pending is not None:
        return _describe_pending(
            model_state.pending,
            report,
            now,
        )
    current = model_state.answering
    if current is None or current.is_completed or report is None:
        return None
    plan = current.release.canary
    if plan is None or report.stage != "bake":
        return None
    return (
        f"all requests for {report.step_seconds:.0f} s of {plan.bake_s} s"
        f" in which worse signals roll it back; {_describe_signals(plan, report)}"
    )


def _first_step(step: _Step) -> Body | None:
    is_ready = step.report.baseline_phase in {"none", "ready"}
    if not is_ready or not step.plan.is_open(step.watch.now):
        return None
    # The baseline is as fresh as the candidate: both have answered nobody yet.
    first = step.plan.weights[0]
    return _step_to(step, first, None)


def _running_step(step: _Step) -> Body | None:
    findings = find_signals(step.plan, step.report)
    verdict = decide(findings)
    if verdict == "abort":
        facts = describe_findings(findings, "worse")
        reason = f"it is worse at {step.progress.weight} % of the requests: {facts}"
        return _abort(
            step.pending,
            reason,
            step.watch,
        )
    # What was shown to be worse ends it, paused or not.
    is_paused = step.progress.paused is not None
    if verdict == "continue" and step.has_enough and not is_paused:
        return _advance(step)
    overdue = _describe_overdue(step, findings)
    if overdue:
        return _abort(
            step.pending,
            overdue,
            step.watch,
        )
    # Only a change is entered: a quiet night is two entries.
    if step.is_quiet == is_paused:
        return None
    begun = step.pending.begun
    return CanaryResumed(begun=begun) if is_paused else CanaryPaused(begun=begun)


def _describe_overdue(step: _Step, findings: tuple[SignalFinding, ...]) -> str:
    """That it waited for too long, for traffic or for a signal; empty where it did not."""
    if step.is_overdue:
        seconds = step.report.quiet_seconds
        return f"nobody asked it for {seconds:.0f} s, so nothing was shown"
    if step.report.step_seconds < step.plan.max_step_s:
        return ""
    facts = describe_findings(findings, "open") or "too few requests"
    return f"nothing was shown in {step.plan.max_step_s} s: {facts}"


def _advance(step: _Step) -> Body | None:
    if not step.plan.is_open(step.watch.now):
        return None
    # The counts are kept beside the ledger, so that the step can be looked at later.
    evidence = step.watch.ledger.remember(step.report.model_dump_json())
    weight = step.plan.weight_after(step.progress.weight)
    if weight is not None:
        return _step_to(
            step,
            weight,
            evidence,
        )
    return ReleaseSwitched(
        begun=step.pending.begun,
        evidence_sha256=evidence,
    )


def _step_to(step: _Step, weight: int, evidence: str | None) -> CanaryStep:
    return CanaryStep(
        begun=step.pending.begun,
        weight=weight,
        evidence_sha256=evidence,
    )


def _abort(pending: RecordedRelease, reason: str, watch: Watch) -> ReleaseAborted:
    reason_sha256 = watch.ledger.remember(reason)
    return ReleaseAborted(
        begun=pending.begun,
        reason_sha256=reason_sha256,
    )


def _describe_pending(
    pending: RecordedRelease,
    report: CanaryReport | None,
    now: datetime,
) -> str | None:
    plan, progress = pending.release.canary, pending.canary
    if plan is None or progress is None:
        return None
    if progress.skipped is not None:
        return f"skipped at entry {progress.skipped}"
    # A step that is due may have to wait for Monday.
    closed = "" if plan.is_open(now) else "; it waits for a change window"
    if progress.weight is None:
        return f"not begun{closed}"
    numbers = plan.weights.index(progress.weight) + 1
    place = (
        f"{progress.weight} % of the requests, step {numbers} of {len(plan.weights)}"
    )
    if report is None or report.step != progress.step:
        return f"{place}; the endpoint has not counted yet"
    return f"{place}, {_describe_step(plan, progress, report)}{closed}"


def _describe_step(
    plan: CanaryPlan, progress: CanaryProgress, report: CanaryReport
) -> str:
    counted = f"{report.step_requests} of {plan.least_requests} answers a side"
    time = f"{report.step_seconds:.0f} s of {plan.window_s} s"
    signals = _describe_signals(
        plan,
        report,
    )
    paused = ""
    if progress.paused is not None:
        seconds = plan.window_s + plan.max_pause_s - report.quiet_seconds
        paused = f"; paused without traffic, aborted in {seconds:.0f} s"
    return f"{time}, {counted}; {signals}{paused}"


def _describe_signals(plan: CanaryPlan, report: CanaryReport) -> str:
    findings = find_signals(plan, report)
    worse = describe_findings(findings, "worse")
    if worse:
        return f"worse: {worse}"
    open_signals = [each.signal for each in findings if each.answer == "open"]
    if not open_signals:
        return "every signal is as good as the baseline's"
    names = ", ".join(open_signals)
    return f"not shown yet: {names}"
