"""Whether each metric was computed as the policy asks, and is judged at all."""

from collections.abc import Iterator

from pipelines.gates.screening.case import Case
from pipelines.gates.screening.findings import make_finding
from pipelines.metrics.needless import describe_needless, has_parts
from pipelines.values.verdict import Finding


def check_signatures(case: Case) -> Iterator[Finding]:
    """Yield a finding for each metric whose signature the policy pins, such as BLEU's tokenizer."""
    for metric, part in case.policy.signatures.items():
        rule = f"{metric} signature"
        signature = case.find_signature(metric, "adapter")
        # Not scored: the rules on guardrails say whether that is allowed.
        if signature is None or has_parts(signature, part):
            text = f"{metric} is computed with {part}, as the policy asks"
            if signature is None:
                text = f"{metric} was not scored, so that no signature is judged"
            yield make_finding(rule, "passed", text)
            continue
        text = (
            f"{metric} was computed with {signature}, and the policy asks for {part}. "
            f"Train again with that setting of score.{metric}"
        )
        yield make_finding(rule, "rejected", text)


def check_settings(case: Case) -> Iterator[Finding]:
    """Yield a rejection for each metric that was set otherwise where its defaults apply.

    A coarser tokenizer shows less of a loss, and margins are the policy's: only a policy that pins
    the setting lets it count.
    """
    # The same for every system; of any of them it counts.
    needless = {}
    for system in case.scorecard.systems:
        for metric in system.metrics:
            if metric.needless is not None:
                needless[metric.name] = metric.needless
    pins = case.policy.signatures
    for name, parts in needless.items():
        pinned = pins.get(name, "")
        if not has_parts(pinned, parts):
            text = describe_needless(name, parts)
            rule = f"{name} setting"
            yield make_finding(rule, "rejected", text)


def check_scales(case: Case) -> Iterator[Finding]:
    """Yield a rejection for each own metric whose scale is another in its file than in the policy.

    The policy's limits on margins and on the smallest effect rest on it.
    """
    for name, scale in case.policy.own_metrics.items():
        metric = case.find_own_metric(name)
        if metric is None or metric.scale == scale:
            continue
        text = (
            f"{name} has a scale of {metric.scale:g} in {metric.path}, "
            f"and the policy goes by {scale:g}. Write the same in both"
        )
        yield make_finding(f"{name} scale", "rejected", text)


def check_margins(case: Case) -> Iterator[Finding]:
    """Yield a rejection for each metric that was scored and that the policy does not judge.

    Such a metric is a hole in the policy.
    """
    judged = case.judged_metrics
    for system in case.scorecard.systems:
        for metric in system.metrics:
            if metric.name in judged:
                continue
            text = (
                f"{metric.name} of {system.system} was scored, "
                "but the policy gives no margin for it. "
                "Add a guardrail, or take it out of score.metrics"
            )
            yield make_finding(f"margin for {metric.name}", "rejected", text)
