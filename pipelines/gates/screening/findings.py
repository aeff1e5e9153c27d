"""What a rule of `screen` found, and the facts that it names."""

from pipelines.gates.no_evidence import describe_flat, has_spread, is_flat
from pipelines.gates.policy import ScreenPolicy
from pipelines.gates.screening.case import Case
from pipelines.statistics.power import clusters_needed
from pipelines.values.evidence import System
from pipelines.values.verdict import Comparison, Finding, Outcome


def make_finding(rule: str, outcome: Outcome, text: str) -> Finding:
    """One rule's finding; the text is a sentence without its full stop."""
    return Finding(rule=rule, outcome=outcome, text=text)


def find_flat(case: Case, comparison: Comparison, against: System) -> str | None:
    """Say that both sides have one score on every prompt; None where they do not."""
    metric = case.find_metric(comparison.metric)
    own = case.find_interval(metric.name, "adapter")
    other = case.find_interval(metric.name, against)
    if own is None or has_spread(comparison, metric) or not is_flat(own, other):
        return None
    return describe_flat(comparison, own.estimate)


def describe_inapplicable(metric: str, note: str) -> str:
    """That a metric says nothing about these references, and why."""
    return f"{metric} does not apply and does not judge: {note}"


def describe_comparison(comparison: Comparison) -> str:
    """The mean difference and its bounds, in the metric's own unit; more is better."""
    return (
        f"{comparison.metric} against {comparison.against}: "
        f"better by {comparison.difference:.3g}, "
        f"bounds {comparison.low:.3g} to {comparison.high:.3g}"
    )


def describe_clusters_needed(
    comparison: Comparison, effect: float, policy: ScreenPolicy
) -> str:
    """How many clusters would show that effect as often as the policy's power asks."""
    needed = clusters_needed(
        comparison.standard_error,
        comparison.clusters,
        effect,
        policy.alpha,
        policy.power,
    )
    # Whoever reads `undecided` learns how much data would decide.
    more = max(needed - comparison.clusters, 0)
    return (
        f"{needed} clusters in all would show a difference of {effect:g} "
        f"in {policy.power:.0%} of cases, {more} more than now"
    )
