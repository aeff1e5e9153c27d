"""The gate before registration: whether the adapter is proven better than the base, than prompting, and than the champion.

Every rule asks whether it passed, so that a missing number or a NaN never does.
"""

import math
import sys
from collections.abc import Iterator

from pydantic import ValidationError

from core.errors import DamagedFile, IncompleteEvidence
from core.value import Value, first_problem
from pipelines import layout
from pipelines.gates.bias_check import output_bias
from pipelines.gates.comparisons import COMPARATORS, OTHERS, compare, score_differences
from pipelines.gates.policy import (
    FEWEST_CLUSTERS,
    GatePolicy,
    Guardrail,
    Policy,
    ScreenPolicy,
    load_policy,
)
from pipelines.metrics import metric_named
from pipelines.scoring.evidence_file import read_evidence
from pipelines.statistics.power import clusters_needed
from pipelines.values.evidence import OPTIONAL_COMPARATORS, Adapter, Scorecard, System
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.verdict import (
    Comparison,
    Finalist,
    Finding,
    Outcome,
    Rejection,
    Undecided,
)

INTO = layout.SCREEN
SCORECARD = layout.SCORECARD
POLICY = layout.POLICY
EXIT_CODES = {"passed": 0, "rejected": 3, "undecided": 4}


class Case(Value):
    """What one rule looks at."""

    scorecard: Scorecard
    comparisons: tuple[Comparison, ...]
    gates: GatePolicy

    @property
    def policy(self) -> ScreenPolicy:
        """The limits of this gate."""
        return self.gates.screen

    @property
    def comparators(self) -> tuple[System, ...]:
        """Base and few-shot base always; the champion and the anchor where they were scored."""
        return tuple(
            system
            for system in COMPARATORS
            if system not in OPTIONAL_COMPARATORS
            or self.scorecard.system(system) is not None
        )

    def comparison(self, metric: str, against: str) -> Comparison | None:
        """The one comparison of the adapter with a system; none, or two, is none."""
        found = [
            each
            for each in self.comparisons
            if each.metric == metric and each.against == against
        ]
        return found[0] if len(found) == 1 else None

    def signature(self, metric: str, system: System) -> str | None:
        """How a metric of a system was computed; None where it was not."""
        score = self.scorecard.system(system)
        return (
            next(
                (each.signature for each in score.metrics if each.name == metric), None
            )
            if score
            else None
        )

    def score(self, metric: str, system: System) -> float:
        """The score of a system; NaN, which equals nothing, where there is none."""
        score = self.scorecard.system(system)
        found = (
            (each.interval.estimate for each in score.metrics if each.name == metric)
            if score
            else iter(())
        )
        return next(found, math.nan)


def screen(
    scorecard: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> Finalist | Rejection | Undecided:
    """Any rule that rejects makes a rejection; else any that is undecided leaves it undecided; else it is a finalist."""
    findings = tuple(findings_of(_case(scorecard, comparisons, policy.gates)))
    outcomes = {finding.outcome for finding in findings}
    if "rejected" in outcomes:
        return Rejection(
            gate="screen",
            findings=findings,
            comparisons=comparisons,
            policy_sha256=policy.sha256,
        )
    if outcomes != {"passed"}:
        return Undecided(
            gate="screen",
            findings=findings,
            comparisons=comparisons,
            policy_sha256=policy.sha256,
        )
    return Finalist(
        findings=findings,
        comparisons=comparisons,
        policy_sha256=policy.sha256,
        scorecard_digest=scorecard.content_sha256(),
        adapter=scorecard.adapter,
        spec=scorecard.spec,
    )


def rules_of(scorecard: Scorecard, policy: Policy) -> tuple[str, ...]:
    """The rules that a policy demands of this scorecard, in order: a verdict has a finding for each and no other."""
    return tuple(
        finding.rule for finding in findings_of(_case(scorecard, (), policy.gates))
    )


def main() -> int:
    """Recompute everything from the evidence, write the verdict, print each reason and give the exit code of the verdict."""
    scorecard, policy = Scorecard.read(SCORECARD), load_policy(POLICY)
    evidence = read_evidence(scorecard.evidence.checked())
    different = score_differences(scorecard, evidence)
    if different:
        raise DamagedFile(
            f"{SCORECARD} does not follow from its evidence: {different[0]} ({len(different)} in all). Run the score stage again."
        )
    verdict = screen(scorecard, compare(evidence, policy.gates.screen), policy)
    verdict.write(INTO / "verdict.json")
    sys.stdout.write(f"{reasons(verdict)}\n")
    return EXIT_CODES[verdict.verdict]


def reasons(verdict: Finalist | Rejection | Undecided) -> str:
    """The verdict, then a line for each reason: what decided it first."""
    order = ("rejected", "undecided", "passed")
    findings = sorted(
        verdict.findings, key=lambda finding: order.index(finding.outcome)
    )
    return "\n".join(
        [
            f"screen: {verdict.verdict}",
            *(f"  {finding.outcome:9} {finding.text}" for finding in findings),
        ]
    )


def findings_of(case: Case) -> Iterator[Finding]:
    """Every rule's finding, whatever the others found."""
    yield trained(case.scorecard.adapter)
    yield scored_as_trained(case.scorecard.adapter, case.scorecard.spec)
    yield enough_clusters(case)
    yield control(case)
    for against in case.comparators:
        if (
            against != "anchor"
        ):  # a fixed version that margins may not add up against; it need not be beaten again
            yield superior(case, against)
    for guardrail in case.policy.guardrails:
        yield from guarded(case, guardrail)
    yield from without_guardrails(case)
    yield from without_margin(case)
    yield from output_bias(case.scorecard.bias, case.gates)


def trained(adapter: Adapter) -> Finding:
    """The adapter moved, in at least one step, and the look that was kept has a lower dev loss than before training."""
    before = adapter.dev_losses[0].loss
    best = next(
        (
            look.loss
            for look in adapter.dev_losses[1:]
            if look.step == adapter.best_step
        ),
        math.nan,
    )
    numbers_are_finite = all(
        math.isfinite(number)
        for number in (adapter.moved, adapter.train_loss, before, best)
    )
    passed = (
        numbers_are_finite
        and adapter.moved > 0
        and adapter.steps >= 1
        and best < before
    )
    losses = f"dev loss {before:.4g} before, {best:.4g} at step {adapter.best_step}"
    text = (
        f"The adapter moved by {adapter.moved:.3g} in {adapter.steps} steps; {losses}"
    )
    return _finding(
        "trained",
        _passed_or_rejected(passed),
        text if passed else f"{text}: training did not make it better",
    )


def scored_as_trained(adapter: Adapter, spec: ServingSpec) -> Finding:
    """The configuration that the scores hold for is this adapter on its own base and template."""
    rule, text = (
        "scored configuration",
        f"The scores hold for {spec.fingerprint}: {spec.engine} {spec.engine_version} in {spec.precision}",
    )
    trained_one = {
        "base_digest": adapter.base_digest,
        "chat_template_sha256": adapter.chat_template_sha256,
    }
    other = (
        spec.with_adapter(adapter.sha256)
        .model_copy(update=trained_one)
        .differences(spec)
    )
    if not other:
        return _finding(rule, "passed", text)
    return _finding(
        rule,
        "rejected",
        f"{text}, which is not what was trained: {other[0]}. Run the generate stage again",
    )


def enough_clusters(case: Case) -> Finding:
    """At least the policy's number of clusters, and never under the floor, in the scorecard and in every comparison."""
    clusters = min(
        [case.scorecard.clusters, *(each.clusters for each in case.comparisons)]
    )
    needed = max(case.policy.min_clusters, FEWEST_CLUSTERS)
    text = f"{clusters} clusters{_behind(case.scorecard)} judge, the policy asks for {needed}"
    if clusters >= needed:
        return _finding("clusters", "passed", text)
    return _finding(
        "clusters", "undecided", f"{text}: {needed - clusters} more are needed"
    )


def _behind(scorecard: Scorecard) -> str:
    if scorecard.groups is None or scorecard.contents is None:
        return " (groups of prompts)"
    return f" ({scorecard.contents} distinct contents in {scorecard.groups} groups of prompts)"


def control(case: Case) -> Finding:
    """The negative control: answers must fit their own references better than those of other prompts."""
    found = case.comparison(case.policy.control, OTHERS)
    if found is None:
        text = f"The negative control needs {case.policy.control}, which was not scored or compares no references. Put it into score.metrics"
        return _finding("control", "rejected", text)
    text = f"{_measured(found)}; the control wants more than 0"
    if found.low > 0:
        return _finding("control", "passed", text)
    return _finding(
        "control",
        "rejected",
        f"Answers fit other prompts' references as well as their own, as after training on shuffled data: {text}",
    )


def superior(case: Case, against: System) -> Finding:
    """The primary metric is better than that of `against`."""
    metric, smallest = case.policy.primary, case.policy.smallest_effect
    rule = f"{metric} superior to {against}"
    found = _comparable(case, metric, against)
    if found is None:
        return _finding(
            rule,
            "rejected",
            f"{metric}, the primary metric, has no valid comparison with {against}. Score both with the same method",
        )
    if _is_no_evidence(case, found, against):
        return _nothing_shown(rule, found, required=True)
    text = _measured(found)
    if found.low > 0:
        return _finding(rule, "passed", f"{text}; superior means more than 0")
    if found.high < smallest:
        return _finding(
            rule,
            "rejected",
            f"{text}: shown to be worth less than the smallest effect that the policy cares for, {smallest:g}",
        )
    return _finding(
        rule,
        "undecided",
        f"{text}: neither above 0 nor below {smallest:g}. {_still_needed(found, smallest, case.policy)}",
    )


def guarded(case: Case, guardrail: Guardrail) -> Iterator[Finding]:
    """The guardrail against each comparator that it names and that was scored; one that judges nothing says so."""
    if case.signature(guardrail.metric, "adapter") is None:
        yield _not_scored(guardrail)
        return
    there = [against for against in case.comparators if against in guardrail.against]
    for against in there:
        yield not_inferior(case, guardrail, against)
    if not there:
        named = " and ".join(guardrail.against)
        text = f"{guardrail.metric} was held against nothing: the policy names {named}, which was not scored. Name base or few_shot, too"
        yield _finding(f"{guardrail.metric} guarded", "undecided", text)


def without_guardrails(case: Case) -> Iterator[Finding]:
    """Guardrails that are all optional, and of which none was scored, guard nothing."""
    if all(
        case.signature(guardrail.metric, "adapter") is None
        for guardrail in case.policy.guardrails
    ):
        names = ", ".join(guardrail.metric for guardrail in case.policy.guardrails)
        text = f"No guardrail judged anything, since none of {names or 'no metric'} was scored. Put one into score.metrics"
        yield _finding("guardrails", "undecided", text)


def not_inferior(case: Case, guardrail: Guardrail, against: System) -> Finding:
    """The metric is not worse than that of `against` by the margin or more."""
    metric, margin = guardrail.metric, guardrail.margin
    rule = f"{metric} not inferior to {against}"
    found = _comparable(case, metric, against)
    if found is None:
        return _stood_in(case, metric, against, rule)
    if _is_no_evidence(case, found, against):
        return _nothing_shown(rule, found, required=guardrail.required)
    text = _measured(found)
    if found.low > -margin:
        return _finding(
            rule, "passed", f"{text}; the policy allows a loss under {margin:g}"
        )
    if found.high < -margin:
        return _finding(
            rule, "rejected", f"{text}: shown to lose more than the margin, {margin:g}"
        )
    return _finding(
        rule,
        "undecided",
        f"{text}: a loss of {margin:g} is not excluded. {_still_needed(found, margin, case.policy)}",
    )


def without_margin(case: Case) -> Iterator[Finding]:
    """A metric that was scored and that the policy does not judge is a hole in the policy."""
    judged = {
        case.policy.primary,
        *(guardrail.metric for guardrail in case.policy.guardrails),
    }
    for system in case.scorecard.systems:
        for metric in system.metrics:
            if metric.name not in judged:
                fact = f"{metric.name} of {system.system} was scored, but the policy gives no margin for it"
                text = f"{fact}. Add a guardrail, or take it out of score.metrics"
                yield _finding(f"margin for {metric.name}", "rejected", text)


def _case(
    scorecard: Scorecard, comparisons: tuple[Comparison, ...], gates: GatePolicy
) -> Case:
    """Validate once more: a value that was built without validation could hold a NaN."""
    try:
        return Case(
            scorecard=Scorecard.model_validate(scorecard.model_dump()),
            comparisons=tuple(
                Comparison.model_validate(each.model_dump()) for each in comparisons
            ),
            gates=gates,
        )
    except ValidationError as error:
        raise IncompleteEvidence(
            f"What screen is to judge is not valid: {first_problem(error)}. Run the score stage again."
        ) from error


def _comparable(case: Case, metric: str, against: System) -> Comparison | None:
    """The comparison, where both sides were computed in the same way."""
    own = case.signature(metric, "adapter")
    return (
        case.comparison(metric, against)
        if own is not None and own == case.signature(metric, against)
        else None
    )


def _is_no_evidence(case: Case, found: Comparison, against: System) -> bool:
    """Both sides are at the very end of the metric's scale and never leave it: it cannot tell them apart, whatever they are."""
    worst = metric_named(found.metric).worst
    both_are_worst = (
        case.score(found.metric, "adapter")
        == worst
        == case.score(found.metric, against)
    )
    return both_are_worst and not found.standard_error > 0


def _nothing_shown(rule: str, found: Comparison, *, required: bool) -> Finding:
    """Like a metric that was not scored: only a policy that does not require it can do without it."""
    worst = f"{metric_named(found.metric).worst:g}"
    fact = f"{found.metric} is {worst} for the adapter and for {found.against} alike, without any spread, which is no evidence"
    if not required:
        return _finding(rule, "passed", f"{fact}, and the policy does not require it")
    step = "Judge by a metric that can tell these answers apart, and have the policy not require this one"
    return _finding(rule, "undecided", f"{fact}. {step}")


def _stood_in(case: Case, metric: str, against: System, rule: str) -> Finding:
    """Only where the methods really differ may another metric be judged in its place: bits per byte for perplexity."""
    own, other, stand_in = (
        case.signature(metric, "adapter"),
        case.signature(metric, against),
        metric_named(metric).stand_in,
    )
    judged = {
        case.policy.primary,
        *(each.metric for each in case.policy.guardrails if against in each.against),
    }
    methods_differ = other is not None and own != other
    if (
        methods_differ
        and stand_in in judged
        and _comparable(case, stand_in, against) is not None
    ):
        return _finding(
            rule,
            "passed",
            f"{metric} is not comparable with {against}, which counts other tokens: {stand_in} judges instead",
        )
    return _finding(
        rule,
        "rejected",
        f"{metric} has no valid comparison with {against}. Score both with the same method",
    )


def _not_scored(guardrail: Guardrail) -> Finding:
    fact = f"{guardrail.metric} was not scored"
    if guardrail.required:
        return _finding(
            f"{guardrail.metric} scored",
            "rejected",
            f"{fact}, and the policy requires it. Put it into score.metrics",
        )
    return _finding(
        f"{guardrail.metric} scored",
        "passed",
        f"{fact}: score.metrics does not ask for it, and the policy does not require it",
    )


def _measured(found: Comparison) -> str:
    return f"{found.metric} against {found.against}: better by {found.difference:.3g}, bounds {found.low:.3g} to {found.high:.3g}"


def _still_needed(found: Comparison, effect: float, policy: ScreenPolicy) -> str:
    needed = clusters_needed(
        found.standard_error, found.clusters, effect, policy.alpha, policy.power
    )
    more = max(needed - found.clusters, 0)
    return f"{needed} clusters in all would show a difference of {effect:g} in {policy.power:.0%} of cases, {more} more than now"


def _passed_or_rejected(passed: bool) -> Outcome:
    return "passed" if passed else "rejected"


def _finding(rule: str, outcome: Outcome, text: str) -> Finding:
    return Finding(rule=rule, outcome=outcome, text=text)
