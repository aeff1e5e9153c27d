"""What a gate answered, with all that a summary shows of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from core.value import Value
from operations.gate_report.fitness import fitness
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import Comparison, Finding, Outcome
from registry.report.rules import explain
from registry.report.scored import SCORECARD

if TYPE_CHECKING:
    from flows.judgement import Judgement
    from flows.run.outcome import Outcome as RunOutcome
    from operations.gate import GateRerun


class GateReport(Value):
    """One answer of one gate."""

    gate: str
    subject: str
    """Whom it is about, as `version 3 of support`."""
    sentence: str
    verdict: Outcome
    findings: tuple[Finding, ...]
    differences: tuple[str, ...] = ()
    """Where stored files say something else than what was computed."""
    scorecard: Scorecard | None = None
    comparisons: tuple[Comparison, ...] = ()
    identities: dict[str, str] = Field(default_factory=dict)
    """Fingerprints and digests, by what they identify."""


def report_of_judgement(judgement: "Judgement") -> GateReport:
    """The report on a registered version: `judge` and the evidence that it looked at."""
    version, verdict = judgement.version, judgement.verdict
    subject = f"Version {version.version} of {version.name}"
    return GateReport(
        gate="judge",
        subject=subject,
        sentence=fitness(subject, verdict),
        verdict=verdict.verdict,
        findings=verdict.findings,
        scorecard=Scorecard.read(judgement.package / SCORECARD),
        comparisons=judgement.finalist.comparisons,
        identities=identities_of(judgement),
    )


def identities_of(judgement: "Judgement") -> dict[str, str]:
    """What exactly was judged, and by what."""
    finalist = judgement.finalist
    return {
        "configuration": finalist.spec.fingerprint,
        "package": judgement.version.package_sha256,
        "adapter": finalist.adapter.sha256,
        "base": finalist.adapter.base_digest,
        "scorecard": finalist.scorecard_digest,
        "policy": judgement.verdict.policy_sha256,
        "ledger entry": str(judgement.ledger_state.head.generation),
    }


def report_of_rerun(folder: Path, rerun: "GateRerun") -> GateReport:
    """The report on stored evidence that was judged again."""
    verdict = rerun.verdict
    path = folder / SCORECARD
    # A run that ended at `admit` was never scored.
    scorecard = Scorecard.read(path) if path.is_file() else None
    outcome = verdict.verdict
    reason = explain(verdict.findings, outcome)
    sentence = f"Verdict of {verdict.gate}: {outcome.upper()}; {reason}."
    # A pass by files that contradict each other must not read as one.
    if rerun.differences:
        count = len(rerun.differences)
        sentence += f" The stored files differ in {count} places from what they give."
    return GateReport(
        gate=verdict.gate,
        subject=f"The evidence in {folder.name}",
        sentence=sentence,
        verdict=verdict.verdict,
        findings=verdict.findings,
        differences=rerun.differences,
        scorecard=scorecard,
        # Of `admit` and of a rejection there are none.
        comparisons=getattr(verdict, "comparisons", ()),
        identities=_identities(scorecard, policy=verdict.policy_sha256),
    )


def report_of_run(outcome: "RunOutcome") -> GateReport:
    """The report on a training run."""
    return GateReport(
        gate=outcome.gate,
        subject=f"A run of {outcome.model}",
        sentence=f"{outcome.result}.",
        verdict=outcome.verdict,
        findings=outcome.findings,
        scorecard=outcome.scorecard,
        identities=_identities(outcome.scorecard, run=outcome.run_id),
    )


def _identities(scorecard: Scorecard | None, **others: str) -> dict[str, str]:
    if scorecard is None:
        return others
    return {
        "configuration": scorecard.spec.fingerprint,
        "adapter": scorecard.adapter.sha256,
        "base": scorecard.adapter.base_digest,
        "evidence": scorecard.evidence.sha256,
        **others,
    }
