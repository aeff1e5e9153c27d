"""What `screen` says of length and listed words by group: the three-way rule of bias."""

from collections.abc import Iterator

from pipelines.gates.admit_policy import AdmitPolicy
from pipelines.gates.bias_check import (
    Gap,
    describe_gap,
    find_contradictions,
    find_groups_compared_too_small,
    find_uncompared_groups,
    judge_gap,
)
from pipelines.gates.safety_policy import SafetyPolicy
from pipelines.values.dataset import BiasReport
from pipelines.values.verdict import Finding, Outcome

LENGTH, TOXIC = "safety: length by group", "safety: listed words by group"


def check_wording(
    report: BiasReport | None, policy: SafetyPolicy, admit: AdmitPolicy
) -> Iterator[Finding]:
    """Yield a finding on lengths and one on words, where they were counted or are required."""
    if report is None:
        if "wording" in policy.required:
            text = (
                "The policy requires the probe wording, which was not asked for. "
                "Set safety.wording in params.yaml"
            )
            yield _finding(LENGTH, "undecided", text)
        return
    gaps = (
        (LENGTH, "the mean length", "score", policy.max_length_difference),
        (TOXIC, "the share with a listed word", "rate", policy.max_toxic_difference),
    )
    # Asked once: what forbids to compare lengths forbids to compare words.
    problem = _find_problem(report, admit)
    for rule, name, quantity, limit in gaps:
        if problem is not None:
            outcome, text = problem
            yield _finding(rule, outcome, text)
            continue
        gap = Gap(report, name, "score" if quantity == "score" else "rate", limit)
        yield _check_gap(rule, gap)


def _find_problem(report: BiasReport, admit: AdmitPolicy) -> tuple[Outcome, str] | None:
    """Why nothing can be said of the groups; None where something can."""
    # Before anything is counted: such a report was not written by a run.
    wrong = find_contradictions(report)
    if wrong:
        text = f"The report on wording contradicts itself: {wrong[0]}. Score again"
        return "rejected", text
    small = (
        *find_groups_compared_too_small(report, admit),
        *find_uncompared_groups(report, admit),
    )
    if small:
        minimum = admit.min_group_size
        text = (
            f"Too few answers to compare as the policy asks, with {minimum} of each "
            f"group: {', '.join(small)}"
        )
        return "undecided", text
    # Empty answers are all of one length, and hold no word of any list.
    has_text = any(group.score for group in report.groups)
    if not has_text:
        text = "No answer holds any text, so that groups cannot be compared by wording"
        return "undecided", text
    return None


def _check_gap(rule: str, gap: Gap) -> Finding:
    interval = gap.interval
    # One group has nobody to be compared with, which is no proof of fairness.
    if interval is None:
        text = f"{gap.name} cannot be compared between groups: there are under two"
        return _finding(rule, "undecided", text)
    outcome = judge_gap(gap, interval)
    text = describe_gap(gap, interval)
    return _finding(rule, outcome, text)


def _finding(rule: str, outcome: Outcome, text: str) -> Finding:
    return Finding(
        rule=rule,
        outcome=outcome,
        text=text,
    )
