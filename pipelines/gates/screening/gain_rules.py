"""Whether the primary metric is better, or as good where the policy lets that pass."""

from collections.abc import Iterator

from pipelines.gates.cheaper import check_saving
from pipelines.gates.policy import Guardrail, ScreenPolicy
from pipelines.gates.screening.case import Case
from pipelines.gates.screening.findings import (
    describe_clusters_needed,
    describe_comparison,
    describe_inapplicable,
    find_flat,
    make_finding,
)
from pipelines.gates.screening.guardrail_rules import check_non_inferiority
from pipelines.values.evidence import System
from pipelines.values.verdict import Comparison, Finding, Outcome


def check_superiority(case: Case, against: System) -> Finding:
    """Check that the primary metric is better than that of `against`."""
    metric = case.policy.primary
    rule = f"{metric} superior to {against}"
    comparison = case.find_comparable(metric, against)
    if comparison is None:
        text = (
            f"{metric}, the primary metric, has no valid comparison with {against}. "
            "Score both with the same method"
        )
        return make_finding(rule, "rejected", text)
    note = case.find_inapplicable(metric)
    # Undecided and never passed: nothing shows that the adapter is better.
    if note is not None:
        return make_finding(
            rule,
            "undecided",
            f"{describe_inapplicable(metric, note)}; the primary metric must apply, "
            "or have the policy name another",
        )
    flat = find_flat(case, comparison, against)
    # Also at the best end of the scale: what cannot get better is not shown to be.
    if flat is not None:
        text = (
            f"{flat}. Bring prompts that some answers get right and others wrong, "
            "or have the policy name another primary metric"
        )
        return make_finding(rule, "undecided", text)
    outcome, reason = _judge_gain(comparison, case.policy)
    text = describe_comparison(comparison)
    return make_finding(rule, outcome, f"{text}{reason}")


def _judge_gain(comparison: Comparison, policy: ScreenPolicy) -> tuple[Outcome, str]:
    """Whether a gain is shown, and is worth a release; the reason continues a sentence."""
    smallest = policy.smallest_effect
    # Bounds and not estimates: what chance may have made is not shown.
    is_better = comparison.low > 0
    if is_better and comparison.difference >= smallest:
        return "passed", f"; superior means more than 0, and {smallest:g} as measured"
    if comparison.high < smallest:
        return "rejected", (
            ": shown to be worth less than the smallest effect "
            f"that the policy cares for, {smallest:g}"
        )
    if is_better:
        return "undecided", (
            ": better, but not shown to be worth a release, since less was measured than "
            f"the smallest effect that the policy cares for, {smallest:g}"
        )
    needed = describe_clusters_needed(comparison, smallest, policy)
    return "undecided", f": neither above 0 nor below {smallest:g}. {needed}"


def check_equal_but_cheaper(case: Case, against: System) -> Iterator[Finding]:
    """Yield whether quality is kept within the policy's margin, and whether the cost is lower."""
    cheaper = case.policy.cheaper
    # `may_be_equal_to` is true of no other policy.
    assert cheaper is not None  # noqa: S101
    held = Guardrail(
        metric=case.policy.primary,
        margin=cheaper.margin,
        against=(against,),
    )
    yield check_non_inferiority(case, held, against)
    yield check_saving(
        case.find_comparable(cheaper.cost, against),
        case.find_interval(cheaper.cost, against),
        cheaper,
    )


def check_primary_against_anchor(case: Case) -> Finding:
    """Check that the primary metric loses less than the smallest effect against the anchor.

    Without it, candidates that chance lets pass would take the champion down step by step.
    """
    held = Guardrail(
        metric=case.policy.primary,
        margin=case.policy.smallest_effect,
        against=("anchor",),
    )
    return check_non_inferiority(case, held, "anchor")
