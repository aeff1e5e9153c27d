"""Stage `screen`, the gate before registration: whether the adapter is proven better.

In: the scorecard and its evidence, and the policy.
Out: `data/screen/verdict.json`: a finalist, a rejection, or undecided, with every reason.
Refuses: a scorecard that does not follow from its evidence. Rejects an adapter that is shown not
to be better than the base, than prompting and than the champion, or that a guardrail stops.

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
from pipelines.gates.cheaper import check_saving
from pipelines.gates.comparisons import COMPARATORS, OTHERS, compare, score_differences
from pipelines.gates.confirmation import name_error
from pipelines.gates.fixed_prompt import check_prompt_record
from pipelines.gates.no_evidence import (
    describe_flat,
    has_spread,
    is_at_best,
    is_flat,
)
from pipelines.gates.policy import (
    FEWEST_CLUSTERS,
    GatePolicy,
    Guardrail,
    Policy,
    ScreenPolicy,
    load_policy,
)
from pipelines.gates.probes_check import check_probes
from pipelines.gates.sampling_check import check_samples
from pipelines.gates.taken_in import check_taken_in
from pipelines.gates.what_passes import describe_power
from pipelines.metrics import Metric, OwnMetric, metric_named
from pipelines.metrics.needless import describe_needless, has_parts
from pipelines.scoring.evidence_file import Evidence, read_evidence
from pipelines.statistics.power import clusters_needed
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Adapter, Scorecard, System
from pipelines.values.own_metric import OwnMetricRecord
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.verdict import (
    EXIT_CODES,
    STATISTICS,
    Comparison,
    Finalist,
    Finding,
    Outcome,
    Rejection,
    Undecided,
)


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
        """What the policy asks for always; every other system where it was scored."""
        asked = self.policy.baselines
        # A prompt that is a baseline itself cannot be better than it.
        itself = self.scorecard.adapter.is_baseline
        return tuple(
            system
            for system in COMPARATORS
            if system != itself
            if system in asked or self.scorecard.system(system) is not None
        )

    @property
    def judged_metrics(self) -> set[str]:
        """The metrics that the policy judges: the primary one and the guardrails."""
        metrics = {guardrail.metric for guardrail in self.policy.guardrails}
        metrics.add(self.policy.primary)
        if self.policy.cheaper is not None:
            metrics.add(self.policy.cheaper.cost)
        return metrics

    def list_metrics_judged_against(self, against: System) -> set[str]:
        """Return the primary metric, and those of the guardrails that name the system."""
        policy = self.policy
        metrics = {policy.primary}
        for guardrail in policy.guardrails:
            if against in guardrail.against:
                metrics.add(guardrail.metric)
        return metrics

    def find_comparison(self, metric: str, against: str) -> Comparison | None:
        """Return the one comparison of the adapter with a system; of none or two, None."""
        matching = [
            comparison
            for comparison in self.comparisons
            if comparison.metric == metric and comparison.against == against
        ]
        # Of two, whoever added one would choose which counts.
        return matching[0] if len(matching) == 1 else None

    def find_comparable(self, metric: str, against: System) -> Comparison | None:
        """Return the comparison where both sides were computed in the same way, else None."""
        own = self.find_signature(metric, "adapter")
        other = self.find_signature(metric, against)
        if own is None or own != other:
            return None
        return self.find_comparison(metric, against)

    def find_signature(self, metric: str, system: System) -> str | None:
        """Return how a metric of a system was computed; None where it was not."""
        system_score = self.scorecard.system(system)
        if system_score is None:
            return None
        for score in system_score.metrics:
            if score.name == metric:
                return score.signature
        return None

    def find_inapplicable(self, metric: str) -> str | None:
        """Return why a metric says nothing about these references; None where it applies."""
        # References are the same for every system.
        system_score = self.scorecard.system("adapter")
        if system_score is None:
            return None
        for score in system_score.metrics:
            if score.name == metric:
                return score.inapplicable
        return None

    def find_metric(self, metric: str) -> Metric:
        """Return a built-in metric, or an own one by what the scorecard keeps of its file."""
        record = self.find_own_metric(metric)
        return metric_named(metric) if record is None else OwnMetric(record)

    def find_own_metric(self, metric: str) -> OwnMetricRecord | None:
        """Return what the scorecard keeps of an own metric; None where it has none of that name."""
        # The same for every system, as the evidence has one record of each.
        system_score = self.scorecard.system("adapter")
        scores = () if system_score is None else system_score.metrics
        for score in scores:
            if score.name == metric:
                return score.own
        return None

    def has_judged(self, guardrail: Guardrail) -> bool:
        """Whether a guardrail applies, and can tell the adapter from a system that it names."""
        metric = guardrail.metric
        if self.find_signature(metric, "adapter") is None:
            return False
        if self.find_inapplicable(metric) is not None:
            return False
        return any(
            against in guardrail.against and not self.tells_nothing(metric, against)
            for against in self.comparators
        )

    def tells_nothing(self, metric: str, against: System) -> bool:
        """Whether both have one score on every prompt, and could have a better one."""
        own = self.find_interval(metric, "adapter")
        other = self.find_interval(metric, against)
        is_best = is_at_best(self.find_metric(metric), own)
        return is_flat(own, other) and not is_best

    def find_interval(self, metric: str, system: System) -> Interval | None:
        """Return the score of a system with its interval; None where there is none."""
        system_score = self.scorecard.system(system)
        scores = () if system_score is None else system_score.metrics
        for score in scores:
            if score.name == metric:
                return score.interval
        return None


def screen(
    scorecard: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> Finalist | Rejection | Undecided:
    """Judge an adapter by every rule of the policy.

    Any rule that rejects makes a rejection; else any that is undecided leaves it undecided;
    else it is a finalist. `IncompleteEvidence` where the values themselves are not valid.
    """
    case = _build_case(scorecard, comparisons, policy.gates)
    findings = tuple(list_findings(case))
    outcomes = {finding.outcome for finding in findings}
    if "rejected" in outcomes:
        return Rejection(
            gate="screen",
            findings=findings,
            comparisons=comparisons,
            policy_sha256=policy.sha256,
            statistics=STATISTICS,
        )
    # Asked so that no finding at all is not a pass.
    if outcomes != {"passed"}:
        return Undecided(
            gate="screen",
            findings=findings,
            comparisons=comparisons,
            policy_sha256=policy.sha256,
            statistics=STATISTICS,
        )
    return Finalist(
        findings=findings,
        comparisons=comparisons,
        policy_sha256=policy.sha256,
        statistics=STATISTICS,
        scorecard_digest=scorecard.content_sha256(),
        adapter=scorecard.adapter,
        spec=scorecard.spec,
    )


def screen_evidence(
    scorecard: Scorecard, evidence: Evidence, policy: Policy
) -> Finalist | Rejection | Undecided:
    """Compare and judge; an undecided verdict says what such evidence could show.

    Errors as of `compare` and `screen`.
    """
    limits = policy.gates.screen
    verdict = screen(scorecard, compare(evidence, limits), policy)
    if not isinstance(verdict, Undecided):
        return verdict
    sentences = describe_power(evidence, limits)
    return verdict.model_copy(
        update={"findings": _with_advice(verdict.findings, sentences)}
    )


def list_rules(scorecard: Scorecard, policy: Policy) -> tuple[str, ...]:
    """Return the rules that a policy demands of this scorecard, in order.

    A verdict has a finding for each and no other.
    """
    case = _build_case(scorecard, (), policy.gates)
    # Rules do not depend on comparisons: without any, each rule still has its finding.
    rules = [finding.rule for finding in list_findings(case)]
    return tuple(rules)


def main() -> int:
    """Recompute everything from the evidence, write and print the verdict, give its exit code.

    `DamagedFile` where the scorecard does not follow from its evidence.
    """
    scorecard = Scorecard.read(layout.SCORECARD)
    policy = load_policy(layout.POLICY)
    evidence = read_evidence(scorecard.evidence.checked())
    # The scorecard's own numbers are not believed: they have to follow from the evidence.
    differences = score_differences(scorecard, evidence)
    if differences:
        raise DamagedFile(
            f"{layout.SCORECARD} does not follow from its evidence: {differences[0]} "
            f"({len(differences)} in all). Run the score stage again."
        )
    verdict = screen_evidence(scorecard, evidence, policy)
    verdict.write(layout.SCREEN_VERDICT)
    sys.stdout.write(f"{format_reasons(verdict)}\n")
    return EXIT_CODES[verdict.verdict]


def format_reasons(verdict: Finalist | Rejection | Undecided) -> str:
    """Return the verdict, then a line for each reason: what decided it first."""
    order = ("rejected", "undecided", "passed")
    findings = sorted(
        verdict.findings, key=lambda finding: order.index(finding.outcome)
    )
    title = f"screen: {verdict.verdict}"
    lines = [f"  {finding.outcome:9} {finding.text}" for finding in findings]
    return "\n".join([title, *lines])


def list_findings(case: Case) -> Iterator[Finding]:
    """Yield every rule's finding, whatever the others say."""
    # None is skipped after a rejection: a verdict names all its reasons at once.
    yield check_training(case.scorecard.adapter)
    yield check_configuration(case.scorecard.adapter, case.scorecard.spec)
    yield check_clusters(case)
    yield check_control(case)
    for against in case.comparators:
        # The anchor is a fixed version that margins may not add up against: it need not be
        # beaten again, and nobody may fall behind it.
        if against == "anchor":
            yield check_primary_against_anchor(case)
        elif case.policy.may_be_equal_to(against):
            yield from check_equal_but_cheaper(case, against)
        else:
            yield check_superiority(case, against)
    for guardrail in case.policy.guardrails:
        yield from check_guardrail(case, guardrail)
    yield from check_any_guardrail(case)
    yield from check_signatures(case)
    yield from check_settings(case)
    yield from check_scales(case)
    yield from check_margins(case)
    yield from check_samples(case.scorecard, case.policy)
    yield from output_bias(case.scorecard.bias, case.gates)
    yield from check_probes(case.scorecard, case.gates)
    yield from name_error(case.policy)


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
        return _make_finding("trained", "passed", text)
    return _make_finding(
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
        return _make_finding(rule, "passed", text)
    return _make_finding(
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
        return _make_finding("clusters", "passed", text)
    # Too few is no proof against the adapter: more prompts may decide.
    return _make_finding(
        "clusters", "undecided", f"{text}: {needed - clusters} more are needed"
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
        return _make_finding("control", "rejected", text)
    note = case.find_inapplicable(metric)
    if note is not None:
        return _make_finding(
            "control",
            "undecided",
            f"{_describe_inapplicable(metric, note)}; the control needs one that applies, "
            "or have the policy name another",
        )
    text = f"{_describe_comparison(comparison)}; the control wants more than 0"
    # An adapter that learned nothing about the prompts fits any reference equally well.
    if comparison.low > 0:
        return _make_finding("control", "passed", text)
    return _make_finding(
        "control",
        "rejected",
        "Answers fit other prompts' references as well as their own, "
        f"as after training on shuffled data: {text}",
    )


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
        return _make_finding(rule, "rejected", text)
    note = case.find_inapplicable(metric)
    # Undecided and never passed: nothing shows that the adapter is better.
    if note is not None:
        return _make_finding(
            rule,
            "undecided",
            f"{_describe_inapplicable(metric, note)}; the primary metric must apply, "
            "or have the policy name another",
        )
    flat = _find_flat(case, comparison, against)
    # Also at the best end of the scale: what cannot get better is not shown to be.
    if flat is not None:
        text = (
            f"{flat}. Bring prompts that some answers get right and others wrong, "
            "or have the policy name another primary metric"
        )
        return _make_finding(rule, "undecided", text)
    outcome, reason = _judge_gain(comparison, case.policy)
    text = _describe_comparison(comparison)
    return _make_finding(rule, outcome, f"{text}{reason}")


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
    needed = _describe_clusters_needed(comparison, smallest, policy)
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
        text = _describe_inapplicable(guardrail.metric, note)
        yield _make_finding(f"{guardrail.metric} applies", "passed", text)
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
        yield _make_finding(f"{guardrail.metric} guarded", "undecided", text)


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
    yield _make_finding("guardrails", "undecided", text)


def check_non_inferiority(case: Case, guardrail: Guardrail, against: System) -> Finding:
    """Check that the metric is not worse than that of `against` by the margin or more."""
    metric, margin = guardrail.metric, guardrail.margin
    rule = f"{metric} not inferior to {against}"
    comparison = case.find_comparable(metric, against)
    if comparison is None:
        return _check_stand_in(case, metric, against, rule)
    flat = _find_flat(case, comparison, against)
    if flat is not None and case.tells_nothing(metric, against):
        return _find_no_evidence(rule, flat, is_required=guardrail.required)
    text = _describe_comparison(comparison)
    # Both bounds on one side of the margin decide; a margin between them does not.
    if comparison.low > -margin:
        return _make_finding(
            rule, "passed", f"{text}; the policy allows a loss under {margin:g}"
        )
    if comparison.high < -margin:
        return _make_finding(
            rule, "rejected", f"{text}: shown to lose more than the margin, {margin:g}"
        )
    needed = _describe_clusters_needed(comparison, margin, case.policy)
    return _make_finding(
        rule,
        "undecided",
        f"{text}: a loss of {margin:g} is not excluded. {needed}",
    )


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
            yield _make_finding(rule, "passed", text)
            continue
        text = (
            f"{metric} was computed with {signature}, and the policy asks for {part}. "
            f"Train again with that setting of score.{metric}"
        )
        yield _make_finding(rule, "rejected", text)


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
            yield _make_finding(rule, "rejected", text)


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
        yield _make_finding(f"{name} scale", "rejected", text)


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
            yield _make_finding(f"margin for {metric.name}", "rejected", text)


def _build_case(
    scorecard: Scorecard, comparisons: tuple[Comparison, ...], gates: GatePolicy
) -> Case:
    """Validate once more: a value that was built without validation could hold a NaN."""
    try:
        return Case(
            scorecard=Scorecard.model_validate(scorecard.model_dump()),
            comparisons=tuple(
                Comparison.model_validate(comparison.model_dump())
                for comparison in comparisons
            ),
            gates=gates,
        )
    except ValidationError as error:
        raise IncompleteEvidence(
            f"What screen is to judge is not valid: {first_problem(error)}. "
            "Run the score stage again."
        ) from error


def _find_flat(case: Case, comparison: Comparison, against: System) -> str | None:
    """Say that both sides have one score on every prompt; None where they do not."""
    metric = case.find_metric(comparison.metric)
    own = case.find_interval(metric.name, "adapter")
    other = case.find_interval(metric.name, against)
    if own is None or has_spread(comparison, metric) or not is_flat(own, other):
        return None
    return describe_flat(comparison, own.estimate)


def _with_advice(
    findings: tuple[Finding, ...], sentences: tuple[str, ...]
) -> tuple[Finding, ...]:
    """Put sentences behind the first reason, where whoever reads the verdict looks."""
    advised = []
    rest = sentences
    for finding in findings:
        text = finding.text
        if finding.outcome == "undecided" and rest:
            text = ". ".join([text, *rest])
            rest = ()
        advised.append(finding.model_copy(update={"text": text}))
    return tuple(advised)


def _find_no_evidence(rule: str, fact: str, *, is_required: bool) -> Finding:
    """Treat it like a metric that was not scored: only a policy that requires it minds."""
    if not is_required:
        text = f"{fact}, and the policy does not require it"
        return _make_finding(rule, "passed", text)
    text = (
        f"{fact}. Judge by a metric that can tell these answers apart, "
        "and have the policy not require this one"
    )
    return _make_finding(rule, "undecided", text)


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
        return _make_finding(rule, "passed", text)
    text = (
        f"{metric} has no valid comparison with {against}. "
        "Score both with the same method"
    )
    return _make_finding(rule, "rejected", text)


def _find_unscored(guardrail: Guardrail) -> Finding:
    rule = f"{guardrail.metric} scored"
    fact = f"{guardrail.metric} was not scored"
    if guardrail.required:
        text = f"{fact}, and the policy requires it. Put it into score.metrics"
        return _make_finding(rule, "rejected", text)
    text = (
        f"{fact}: score.metrics does not ask for it, and the policy does not require it"
    )
    return _make_finding(rule, "passed", text)


def _describe_clusters(scorecard: Scorecard) -> str:
    # Scorecards from before contents were counted have neither number.
    if scorecard.groups is None or scorecard.contents is None:
        return " (groups of prompts)"
    return (
        f" ({scorecard.contents} distinct contents "
        f"in {scorecard.groups} groups of prompts)"
    )


def _describe_inapplicable(metric: str, note: str) -> str:
    return f"{metric} does not apply and does not judge: {note}"


def _describe_comparison(comparison: Comparison) -> str:
    return (
        f"{comparison.metric} against {comparison.against}: "
        f"better by {comparison.difference:.3g}, "
        f"bounds {comparison.low:.3g} to {comparison.high:.3g}"
    )


def _describe_clusters_needed(
    comparison: Comparison, effect: float, policy: ScreenPolicy
) -> str:
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


def _make_finding(rule: str, outcome: Outcome, text: str) -> Finding:
    return Finding(rule=rule, outcome=outcome, text=text)
