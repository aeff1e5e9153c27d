"""Stage `screen`, the gate before registration: whether the adapter is proven better.

In: the scorecard and its evidence, and the policy.
Out: `data/screen/verdict.json`: a finalist, a rejection, or undecided, with every reason.
Refuses: a scorecard that does not follow from its evidence. Rejects an adapter that is shown not
to be better than the base, than prompting and than the champion, or that a guardrail stops.

Every rule asks whether it passed, so that a missing number or a NaN never does.
"""

import sys
from collections.abc import Iterator

from core.errors import DamagedFile
from pipelines import layout
from pipelines.gates.bias_check import output_bias
from pipelines.gates.comparisons import compare, score_differences
from pipelines.gates.confirmation import name_error
from pipelines.gates.policy import Policy, load_policy
from pipelines.gates.probes_check import check_probes
from pipelines.gates.sampling_check import check_samples
from pipelines.gates.screening.adapter_rules import (
    check_clusters,
    check_configuration,
    check_control,
    check_training,
)
from pipelines.gates.screening.case import Case, build_case
from pipelines.gates.screening.gain_rules import (
    check_equal_but_cheaper,
    check_primary_against_anchor,
    check_superiority,
)
from pipelines.gates.screening.guardrail_rules import (
    check_any_guardrail,
    check_guardrail,
)
from pipelines.gates.screening.metric_rules import (
    check_margins,
    check_scales,
    check_settings,
    check_signatures,
)
from pipelines.gates.what_passes import describe_power
from pipelines.scoring.evidence_file import Evidence, read_evidence
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import (
    EXIT_CODES,
    STATISTICS,
    Comparison,
    Finalist,
    Finding,
    Rejection,
    Undecided,
)


def screen(
    scorecard: Scorecard, comparisons: tuple[Comparison, ...], policy: Policy
) -> Finalist | Rejection | Undecided:
    """Judge an adapter by every rule of the policy.

    Any rule that rejects makes a rejection; else any that is undecided leaves it undecided;
    else it is a finalist. `IncompleteEvidence` where the values themselves are not valid.
    """
    case = build_case(scorecard, comparisons, policy.gates)
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
    case = build_case(scorecard, (), policy.gates)
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
