"""One sentence that a person reads first: fit, not yet, or rejected, and by which rules."""

from pipelines.values.verdict import Candidate, Rejection, Undecided
from registry.report.rules import explain

_BEGINNINGS = {
    "passed": "is fit for release",
    "rejected": "is rejected",
    "undecided": "is not yet fit for release",
}


def fitness(subject: str, verdict: Candidate | Rejection | Undecided) -> str:
    """Say whether a version may be released, and what is missing where it may not."""
    outcome = verdict.verdict
    beginning = f"{subject} {_BEGINNINGS[outcome]}"
    reason = explain(verdict.findings, outcome)
    # What a person stands in for is no evidence: the sentence says how much of it there is.
    waived = 0
    if isinstance(verdict, Candidate):
        waived = len(verdict.waivers)
    note = ""
    if waived:
        note = f", {waived} of them by a waiver"
    return f"{beginning}: {reason}{note}."
