"""Whether nothing that the policy guards has become worse."""

from collections.abc import Iterator

from pipelines.gates.policy import Guardrail
from pipelines.gates.screening.case import Case
from pipelines.gates.screening.findings import (
    describe_clusters_needed,
    describe_comparison,
    describe_inapplicable,
    find_flat,
    make_finding,
)
from pipelines.values.evidence import System
from pipelines.values.verdict import Finding


def check_guardrail(case: Case, guardrail: Guardrail) -> Iterator[Finding]:
    """Yield the guardrail's finding against each comparator that it names and that was scored.

    A guardrail that judges nothing says so.
    """
    if case.find_signature(guardrail.metric, "adapter") is None:
        yield _find_unscored(guardrail)
        return
    note = case.find_inapplicable(guardrail.metric)
    # Also where the policy requires it: a number that means nothing rejects nobody.
    if note is not None:
        text = describe_inapplicable(guardrail.metric, note)
        yield make_finding(f"{guardrail.metric} applies", "passed", text)
        return
    # The champion and the anchor may not exist: the others have to guard then.
    scored = [against for against in case.comparators if against in guardrail.against]
    for against in scored:
        yield check_non_inferiority(case, guardrail, against)
    if not scored:
        names = " and ".join(guardrail.against)
        text = (
            f"{guardrail.metric} was held against nothing: the policy names {names}, "
            "which was not scored. Name base or few_shot, too"
        )
        yield make_finding(f"{guardrail.metric} guarded", "undecided", text)


def check_any_guardrail(case: Case) -> Iterator[Finding]:
    """Yield a finding where no guardrail judged: none was scored, applies and tells answers apart.

    All of them optional or not applicable, they guard nothing.
    """
    guardrails = case.policy.guardrails
    if any(case.has_judged(guardrail) for guardrail in guardrails):
        return
    metrics = [guardrail.metric for guardrail in guardrails]
    is_any_scored = any(
        case.find_signature(metric, "adapter") is not None for metric in metrics
    )
    reason = "the policy names no guardrail"
    if metrics:
        reason = f"none of {', '.join(metrics)} was scored"
    if is_any_scored:
        reason = f"none of {', '.join(metrics)} applies and tells these answers apart"
    text = (
        f"No guardrail judged anything, since {reason}. "
        "Put one that does into score.metrics and the policy"
    )
    yield make_finding("guardrails", "undecided", text)


def check_non_inferiority(case: Case, guardrail: Guardrail, against: System) -> Finding:
    """Check that the metric is not worse than that of `against` by the margin or more."""
    metric, margin = guardrail.metric, guardrail.margin
    rule = f"{metric} not inferior to {against}"
    comparison = case.find_comparable(metric, against)
    if comparison is None:
        return _check_stand_in(case, metric, against, rule)
    flat = find_flat(case, comparison, against)
    if flat is not None and case.tells_nothing(metric, against):
        return _find_no_evidence(rule, flat, is_required=guardrail.required)
    text = describe_comparison(comparison)
    # Both bounds on one side of the margin decide; a margin between them does not.
    if comparison.low > -margin:
        return make_finding(
            rule, "passed", f"{text}; the policy allows a loss under {margin:g}"
        )
    if comparison.high < -margin:
        return make_finding(
            rule, "rejected", f"{text}: shown to lose more than the margin, {margin:g}"
        )
    needed = describe_clusters_needed(comparison, margin, case.policy)
    return make_finding(
        rule,
        "undecided",
        f"{text}: a loss of {margin:g} is not excluded. {needed}",
    )


def _find_unscored(guardrail: Guardrail) -> Finding:
    rule = f"{guardrail.metric} scored"
    fact = f"{guardrail.metric} was not scored"
    if guardrail.required:
        text = f"{fact}, and the policy requires it. Put it into score.metrics"
        return make_finding(rule, "rejected", text)
    text = (
        f"{fact}: score.metrics does not ask for it, and the policy does not require it"
    )
    return make_finding(rule, "passed", text)


def _find_no_evidence(rule: str, fact: str, *, is_required: bool) -> Finding:
    """Treat it like a metric that was not scored: only a policy that requires it minds."""
    if not is_required:
        text = f"{fact}, and the policy does not require it"
        return make_finding(rule, "passed", text)
    text = (
        f"{fact}. Judge by a metric that can tell these answers apart, "
        "and have the policy not require this one"
    )
    return make_finding(rule, "undecided", text)


def _check_stand_in(case: Case, metric: str, against: System, rule: str) -> Finding:
    """Let another metric judge in its place where the methods really differ.

    Bits per byte replaces perplexity against a model with another tokenizer.
    """
    own = case.find_signature(metric, "adapter")
    other = case.find_signature(metric, against)
    stand_in = case.find_metric(metric).stand_in
    # The stand-in has to be judged against the same system, or nothing would judge.
    judged = case.list_metrics_judged_against(against)
    methods_differ = other is not None and own != other
    can_stand_in = (
        stand_in is not None
        and stand_in in judged
        and case.find_inapplicable(stand_in) is None
        and case.find_comparable(stand_in, against) is not None
    )
    if methods_differ and can_stand_in:
        text = (
            f"{metric} is not comparable with {against}, "
            f"which counts other tokens: {stand_in} judges instead"
        )
        return make_finding(rule, "passed", text)
    text = (
        f"{metric} has no valid comparison with {against}. "
        "Score both with the same method"
    )
    return make_finding(rule, "rejected", text)
