"""Whether a finalist beats the challenger that is under review: both sides' stored evidence, paired on the prompts that both answered."""

from pipelines.gates.comparisons import compare
from pipelines.gates.policy import Policy
from pipelines.metrics import metric_named
from pipelines.scoring.evidence_file import Evidence, EvidenceRow, evidence_of
from pipelines.scoring.scores import system_scores
from pipelines.stages.screen import Case, enough_clusters, guarded, superior
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import Finding

_AS_CHAMPION: dict[str, object] = {
    "system": "champion",
    "control_prompt_id": None,
    "control": {},
}


def against_challenger(
    scorecard: Scorecard, own: Evidence, challenger: Evidence, policy: Policy
) -> tuple[Finding, ...]:
    """The rules that `screen` holds a finalist to against a champion, with the challenger in the champion's place."""
    evidence = _paired(own, challenger)
    if evidence is None:
        text = "The finalist and the challenger answered no prompt in common: nothing shows which one is better"
        return (Finding(rule="prompts in common", outcome="undecided", text=text),)
    metrics = [metric_named(name) for name in evidence.metrics]
    scores = system_scores(evidence, metrics, scorecard.resampling)
    shared = {
        "systems": scores,
        "prompts": len(evidence.groups),
        "clusters": len(set(evidence.clusters)),
    }
    screen = policy.gates.screen
    case = Case(
        scorecard=scorecard.model_copy(update=shared),
        comparisons=compare(evidence, screen),
        gates=policy.gates,
    )
    kept = (
        guardrail.model_copy(update={"against": ("champion",)})
        for guardrail in screen.guardrails
        if "champion" in guardrail.against
    )
    return (
        enough_clusters(case),
        superior(case, "champion"),
        *(finding for guardrail in kept for finding in guarded(case, guardrail)),
    )


def beats(findings: tuple[Finding, ...]) -> bool:
    """Whether every rule passed; no rule at all is not a pass."""
    return bool(findings) and all(finding.outcome == "passed" for finding in findings)


def _paired(own: Evidence, challenger: Evidence) -> Evidence | None:
    """Both adapters' rows for the prompts, groups and references that are the same on both sides, under the metrics that both have."""
    metrics = set(own.metrics) & set(challenger.metrics)
    other = {_asked(row): row for row in challenger.rows["adapter"]}
    mine = [row for row in own.rows["adapter"] if _asked(row) in other]
    if not mine or not metrics:
        return None
    # The challenger's evidence may be older than contents; prompts that both answered have one content.
    theirs = [
        other[_asked(row)].model_copy(
            update=_AS_CHAMPION | {"feature": row.feature, "content": row.content}
        )
        for row in mine
    ]
    return evidence_of(_with(row, metrics) for row in (*mine, *theirs))


def _with(row: EvidenceRow, metrics: set[str]) -> EvidenceRow:
    return row.model_copy(
        update={
            "statistics": {
                name: numbers
                for name, numbers in row.statistics.items()
                if name in metrics
            }
        }
    )


def _asked(row: EvidenceRow) -> tuple[str, str, tuple[str, ...]]:
    return row.row.prompt_id, row.group, row.row.references
