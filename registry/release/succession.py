"""Whether a finalist beats the challenger that is under review.

Both sides' stored evidence is paired on the prompts that both answered.
"""

from pathlib import Path

from pipelines.gates.comparisons import compare
from pipelines.gates.policy import Guardrail, Policy, ScreenPolicy
from pipelines.gates.screening.adapter_rules import check_clusters
from pipelines.gates.screening.case import Case
from pipelines.gates.screening.gain_rules import check_superiority
from pipelines.gates.screening.guardrail_rules import check_guardrail
from pipelines.metrics import Metric
from pipelines.metrics.own import count_rows
from pipelines.metrics.own_file import find_same_file
from pipelines.scoring.evidence_file import Evidence, EvidenceRow, evidence_of
from pipelines.scoring.scores import list_scored_rows, system_scores, with_statistics
from pipelines.values.evidence import Scorecard
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.verdict import Finding

_AS_CHAMPION: dict[str, object] = {
    "system": "champion",
    "control_prompt_id": None,
    "control": {},
}
_Question = tuple[str, str, tuple[str, ...]]
"""Prompt id, group, and references: what must be the same on both sides."""


def against_challenger(
    scorecard: Scorecard,
    own: Evidence,
    challenger: Evidence,
    policy: Policy,
    project: Path | None = None,
) -> tuple[Finding, ...]:
    """Judge a finalist by the rules of `screen`, with the challenger in the champion's place.

    The challenger's answers are counted by the finalist's own metrics, whose files `project` has.
    `ParameterError` where it does not, and the challenger was counted by others.
    """
    evidence = _pair(own, challenger, project)
    if evidence is None:
        text = (
            "The finalist and the challenger answered no prompt in common: "
            "nothing shows which one is better"
        )
        return (Finding(rule="prompts in common", outcome="undecided", text=text),)
    case = _make_case(scorecard, evidence, policy)
    findings = [check_clusters(case), check_superiority(case, "champion")]
    for guardrail in _champion_guardrails(policy.gates.screen):
        findings.extend(check_guardrail(case, guardrail))
    return tuple(findings)


def beats(findings: tuple[Finding, ...]) -> bool:
    """Whether every rule passed; no rule at all is not a pass."""
    outcomes = {finding.outcome for finding in findings}
    return outcomes == {"passed"}


def _make_case(scorecard: Scorecard, evidence: Evidence, policy: Policy) -> Case:
    """The finalist's scorecard, restricted to the prompts that both sides answered."""
    metrics = [evidence.metric_named(name) for name in evidence.metrics]
    # Counted again: the rules must see the paired prompts, not all of the scorecard's.
    restriction = {
        "systems": system_scores(evidence, metrics, scorecard.resampling),
        "prompts": len(evidence.groups),
        "clusters": len(set(evidence.clusters)),
    }
    return Case(
        scorecard=scorecard.model_copy(update=restriction),
        comparisons=compare(evidence, policy.gates.screen),
        gates=policy.gates,
    )


def _champion_guardrails(policy: ScreenPolicy) -> list[Guardrail]:
    # The other systems are not in the paired evidence, so nothing could be said of them.
    restriction = {"against": ("champion",)}
    return [
        guardrail.model_copy(update=restriction)
        for guardrail in policy.guardrails
        if "champion" in guardrail.against
    ]


def _pair(own: Evidence, challenger: Evidence, project: Path | None) -> Evidence | None:
    """Both adapters' rows where prompt, group and references agree, under their common metrics.

    None where they share no row or no metric.
    """
    metrics = set(own.metrics) & set(challenger.metrics)
    other_rows = {_question(row): row for row in challenger.rows["adapter"]}
    own_rows: list[EvidenceRow] = []
    champion_rows: list[EvidenceRow] = []
    for row in own.rows["adapter"]:
        question = _question(row)
        other = other_rows.get(question)
        if other is not None:
            own_rows.append(row)
            champion_rows.append(_as_champion(other, row))
    if not own_rows or not metrics:
        return None
    pairs = [*own_rows, *champion_rows]
    paired = evidence_of(_restrict(row, metrics) for row in pairs)
    return _count_alike(paired, own, challenger, project)


def _count_alike(
    paired: Evidence, own: Evidence, challenger: Evidence, project: Path | None
) -> Evidence:
    """The challenger's answers counted as the finalist's, where theirs were counted otherwise.

    Numbers of two tokenizers, or of two files, are not comparable; the texts are there to be
    counted again.
    """
    header = {"settings": own.settings, "own_metrics": own.own_metrics}
    alike = paired.model_copy(update=header)
    if _is_counted_alike(own, challenger, alike.metrics):
        return alike
    # The adapter's controls point at prompts that are perhaps not among the pairs.
    rows = [
        _without_control(row)
        for row in (*alike.rows["adapter"], *alike.rows["champion"])
    ]
    metrics = [_counting(alike, name, rows, project) for name in alike.metrics]
    counted = with_statistics(rows, metrics)
    return counted.model_copy(update=header)


def _is_counted_alike(
    own: Evidence, challenger: Evidence, metrics: tuple[str, ...]
) -> bool:
    standard = MetricSettings()
    if (own.settings or standard) != (challenger.settings or standard):
        return False
    return all(
        _signature_of(own, name) == _signature_of(challenger, name) for name in metrics
    )


def _signature_of(evidence: Evidence, metric: str) -> str | None:
    """How an own metric was counted; None for a built-in one."""
    record = evidence.own_metric(metric)
    return None if record is None else record.signature


def _counting(
    evidence: Evidence, name: str, rows: list[EvidenceRow], project: Path | None
) -> Metric:
    """The metric, ready to count these rows."""
    record = evidence.own_metric(name)
    if record is None:
        return evidence.metric_named(name)
    file = find_same_file(record, project)
    return count_rows(file, list_scored_rows(rows), evidence.references)


def _without_control(row: EvidenceRow) -> EvidenceRow:
    return row.model_copy(update={"control_prompt_id": None})


def _as_champion(row: EvidenceRow, own: EvidenceRow) -> EvidenceRow:
    # The challenger's evidence may be from before contents were counted. Prompts that both
    # answered have one content, so the finalist's row says which.
    shared = {"feature": own.feature, "content": own.content}
    return row.model_copy(update=_AS_CHAMPION | shared)


def _restrict(row: EvidenceRow, metrics: set[str]) -> EvidenceRow:
    """The row with the statistics of these metrics alone."""
    statistics = {
        name: numbers for name, numbers in row.statistics.items() if name in metrics
    }
    return row.model_copy(update={"statistics": statistics})


def _question(row: EvidenceRow) -> _Question:
    # A prompt whose references changed is another question.
    return (
        row.row.prompt_id,
        row.group,
        row.row.references,
    )
