"""Whether the adapter learned, whose scores these are, and whether they can show anything."""

import math

from pipelines.gates.comparisons import OTHERS
from pipelines.gates.fixed_prompt import check_prompt_record
from pipelines.gates.policy import FEWEST_CLUSTERS
from pipelines.gates.screening.case import Case
from pipelines.gates.screening.findings import (
    describe_comparison,
    describe_inapplicable,
    make_finding,
)
from pipelines.gates.taken_in import check_taken_in
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.verdict import Finding


def check_training(adapter: Adapter) -> Finding:
    """Check that the adapter moved, in at least one step, and learned.

    The look that was kept must have a lower dev loss than before training.
    """
    if adapter.elsewhere is not None:
        return check_taken_in(adapter)
    if adapter.prompt is not None:
        return check_prompt_record(adapter, adapter.prompt)
    first_loss = adapter.dev_losses[0].loss
    # NaN where the best step has no look: it is below nothing.
    best_loss = math.nan
    for look in adapter.dev_losses[1:]:
        if look.step == adapter.best_step:
            best_loss = look.loss
            break
    numbers = (adapter.moved, adapter.train_loss, first_loss, best_loss)
    is_finite = all(math.isfinite(number) for number in numbers)
    has_moved = adapter.moved > 0 and adapter.steps >= 1
    has_passed = is_finite and has_moved and best_loss < first_loss
    text = (
        f"The adapter moved by {adapter.moved:.3g} in {adapter.steps} steps; "
        f"dev loss {first_loss:.4g} before, {best_loss:.4g} at step {adapter.best_step}"
    )
    if has_passed:
        return make_finding("trained", "passed", text)
    return make_finding(
        "trained", "rejected", f"{text}: training did not make it better"
    )


def check_configuration(adapter: Adapter, spec: ServingSpec) -> Finding:
    """Check that the scores hold for this adapter on its own base and template."""
    rule = "scored configuration"
    text = (
        f"The scores hold for {spec.fingerprint}: "
        f"{spec.engine} {spec.engine_version} in {spec.precision}"
    )
    # The configuration that should have been scored, from what the adapter's record says.
    expected = spec.with_adapter(adapter.sha256).model_copy(
        update={
            "base_digest": adapter.base_digest,
            "chat_template_sha256": adapter.chat_template_sha256,
        }
    )
    differences = expected.differences(spec)
    if not differences:
        return make_finding(rule, "passed", text)
    return make_finding(
        rule,
        "rejected",
        f"{text}, which is not what was trained: {differences[0]}. "
        "Run the generate stage again",
    )


def check_clusters(case: Case) -> Finding:
    """Check the number of clusters, in the scorecard and in every comparison.

    At least the policy's number is needed, and never under the floor.
    """
    counts = [comparison.clusters for comparison in case.comparisons]
    clusters = min([case.scorecard.clusters, *counts])
    needed = max(case.policy.min_clusters, FEWEST_CLUSTERS)
    text = (
        f"{clusters} clusters{_describe_clusters(case.scorecard)} judge, "
        f"the policy asks for {needed}"
    )
    if clusters >= needed:
        return make_finding("clusters", "passed", text)
    # Too few is no proof against the adapter: more prompts may decide.
    return make_finding(
        "clusters", "undecided", f"{text}: {needed - clusters} more are needed"
    )


def _describe_clusters(scorecard: Scorecard) -> str:
    # Scorecards from before contents were counted have neither number.
    if scorecard.groups is None or scorecard.contents is None:
        return " (groups of prompts)"
    return (
        f" ({scorecard.contents} distinct contents "
        f"in {scorecard.groups} groups of prompts)"
    )


def check_control(case: Case) -> Finding:
    """Check the negative control.

    Answers must fit their own references better than those of other prompts.
    """
    metric = case.policy.control
    comparison = case.find_comparison(metric, OTHERS)
    if comparison is None:
        text = (
            f"The negative control needs {metric}, "
            "which was not scored or compares no references. "
            "Put it into score.metrics"
        )
        return make_finding("control", "rejected", text)
    note = case.find_inapplicable(metric)
    if note is not None:
        return make_finding(
            "control",
            "undecided",
            f"{describe_inapplicable(metric, note)}; the control needs one that applies, "
            "or have the policy name another",
        )
    text = f"{describe_comparison(comparison)}; the control wants more than 0"
    # An adapter that learned nothing about the prompts fits any reference equally well.
    if comparison.low > 0:
        return make_finding("control", "passed", text)
    return make_finding(
        "control",
        "rejected",
        "Answers fit other prompts' references as well as their own, "
        f"as after training on shuffled data: {text}",
    )
