"""What a release that is scored again comes to, and whether traffic goes back for it.

The predecessor is scored on the same rows, as the system `anchor`: it must not be shown to be
better than what took its place, and need not be beaten once more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from core.errors import IllegalEntry
from core.value import Value
from pipelines.gates.policy import Policy
from pipelines.values.verdict import Comparison, Finalist, Finding, Rejection, Undecided
from registry.ledger.entries import (
    Entry,
    ReleaseCompleted,
    Rescored,
    RolledBack,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import ModelState, RecordedRelease
from registry.release.recorded_verdict import recorded_findings

PREDECESSOR = "anchor"
"""The system under which the predecessor is scored."""
_PROMPTED = frozenset({"base", "few_shot", "retrieval"})
_OF_GROUPS = frozenset({"output bias", "output refusals", "output selection"})
"""Rules of `screen` that a release fails by itself: what it does to groups of people."""
_DRIVER = "controller"
_MOST_REASONS = 5


class RescoreVerdict(Value):
    """Whether what answers is shown to be worse, and by which numbers.

    Kept as JSON beside the ledger, under the digest that the entry names.
    """

    verdict: Literal["passed", "rejected", "undecided"]
    findings: tuple[Finding, ...]


def judge_again(
    verdict: Finalist | Rejection | Undecided, policy: Policy
) -> RescoreVerdict:
    """Judge what was scored again: rejected only where it is shown to be worse or unfair.

    That it no longer beats the base is no reason to go back: nothing says that another one does.
    """
    worse = (
        *_worse_than_predecessor(verdict, policy),
        *_unfair(verdict),
    )
    if worse:
        return RescoreVerdict(verdict="rejected", findings=worse)
    findings = verdict.findings
    if verdict.verdict == "passed":
        return RescoreVerdict(verdict="passed", findings=findings)
    return RescoreVerdict(verdict="undecided", findings=findings)


def find_losses(
    verdict: Finalist | Rejection | Undecided, policy: Policy
) -> tuple[Finding, ...]:
    """What people are alarmed for: shown to be worse than something, or unfair.

    Worse than the version before, or than the base with or without examples. On a week's rows a
    champion that is truly better often is not shown to be so: that is no news.
    """
    # Losses against the version before; of the others the primary metric has no margin.
    losses = list(_worse_than_predecessor(verdict, policy))
    for comparison in verdict.comparisons:
        margin = _margin_against_prompting(comparison, policy)
        if margin is not None and comparison.high < -margin:
            losses.append(_loss(comparison, margin, comparison.against))
    return (*losses, *_unfair(verdict))


def _margin_against_prompting(comparison: Comparison, policy: Policy) -> float | None:
    """What may be lost against the base, with or without examples; None: nothing is asked."""
    if comparison.against not in _PROMPTED:
        return None
    screen = policy.gates.screen
    if comparison.metric == screen.primary:
        return 0.0
    for guardrail in screen.guardrails:
        is_named = comparison.against in guardrail.against
        if guardrail.metric == comparison.metric and is_named:
            return guardrail.margin
    return None


def _worse_than_predecessor(
    verdict: Finalist | Rejection | Undecided, policy: Policy
) -> Iterator[Finding]:
    """Each metric of which the whole interval is beyond what the policy allows to be lost."""
    screen = policy.gates.screen
    # The primary metric has no margin of its own: an effect that nobody cares for is none.
    margins = {screen.primary: screen.smallest_effect}
    for guardrail in screen.guardrails:
        margins[guardrail.metric] = guardrail.margin
    for comparison in verdict.comparisons:
        if comparison.against != PREDECESSOR:
            continue
        margin = margins.get(comparison.metric)
        # Asked so that a NaN is no loss: an interval that is not known decides nothing.
        if margin is not None and comparison.high < -margin:
            yield _loss(comparison, margin, "the version before")


def _loss(comparison: Comparison, margin: float, than: str) -> Finding:
    lost = -comparison.difference
    text = (
        f"{comparison.metric} is worse by {lost:.3g} than {than}"
        f" (at least {-comparison.high:.3g}, and the policy allows {margin:g})"
    )
    return Finding(
        rule=f"{comparison.metric} against {than}",
        outcome="rejected",
        text=text,
    )


def _unfair(verdict: Finalist | Rejection | Undecided) -> Iterator[Finding]:
    for finding in verdict.findings:
        is_of_groups = finding.rule in _OF_GROUPS
        if is_of_groups and finding.outcome == "rejected":
            yield finding


@dataclass(frozen=True)
class Rescore:
    """The last time that a release was scored again, and the entry that holds it."""

    generation: int
    at: datetime
    body: Rescored


class Rescores:
    """Re-scores and completions of a ledger, which is read on from where it was read last."""

    def __init__(self) -> None:
        self.generation = 0
        self._last: dict[int, Rescore] = {}
        self._completed: dict[int, datetime] = {}

    def read(self, entries: Iterable[Entry]) -> None:
        """Read entries that were verified."""
        for entry in entries:
            self.generation = entry.generation
            body = entry.body
            if isinstance(body, ReleaseCompleted):
                self._completed[body.begun] = entry.at
            # A later one takes the place of an earlier one, whatever either says.
            if isinstance(body, Rescored):
                self._last[body.begun] = Rescore(
                    generation=entry.generation,
                    at=entry.at,
                    body=body,
                )

    def find_against(self, model: ModelState) -> Rescore | None:
        """The re-score that says that what answers is worse; None where the last one does not."""
        answering = model.answering
        if answering is None:
            return None
        last = self._last.get(answering.begun)
        # Undecided is no reason to go back, and neither is a pass.
        if last is None or last.body.verdict != "rejected":
            return None
        return last

    def bakes(self, rescore: Rescore, answering: RecordedRelease) -> bool:
        """Whether the re-score was entered within the bake time of the release.

        By the ledger's times alone: a controller that was away meanwhile changes nothing.
        """
        plan = answering.release.canary
        if plan is None or plan.bake_s == 0:
            return False
        completed = self._completed.get(answering.begun)
        # It bakes before it is completed, and once more as long afterwards.
        if completed is None:
            return True
        bake = timedelta(seconds=plan.bake_s)
        return rescore.at - completed < bake


def is_this_pair(model_state: ModelState, rescore: Rescore) -> bool:
    """Whether it compared what answers now with what a rollback leads to now."""
    answering, before = model_state.answering, model_state.before
    if answering is None or before is None:
        return False
    body = rescore.body
    is_this = answering.begun == body.begun
    return is_this and before.begun == body.against


def way_back(model_state: ModelState, rescore: Rescore, ledger: Ledger) -> RolledBack:
    """The entry that goes back for it; `IllegalEntry` where nothing served before."""
    before = model_state.before
    if before is None:
        raise IllegalEntry(f"Nothing of {rescore.body.model} served before.")
    reason = describe(rescore, ledger)
    return RolledBack(
        model=rescore.body.model,
        to=before.begun,
        by=_DRIVER,
        reason_sha256=ledger.remember(reason),
    )


def describe(rescore: Rescore, ledger: Ledger) -> str:
    """What was found, with its numbers, as a sentence without its full stop."""
    version = rescore.body.version
    place = f"version {version}, scored again (entry {rescore.generation})"
    findings = recorded_findings(ledger, rescore.body.verdict_sha256)
    reasons = [finding.text for finding in findings]
    # The entry is signed and says what was found; its text may have been erased.
    if not reasons:
        return f"{place}, is worse or unfair"
    facts = "; ".join(reasons[:_MOST_REASONS])
    return f"{place}: {facts}"
