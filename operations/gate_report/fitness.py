"""One sentence that a person reads first: fit, not yet, or rejected, and by which rules."""

from collections.abc import Sequence

from pipelines.values.verdict import Candidate, Finding, Outcome, Rejection, Undecided

_MOST_NAMED = 6
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


def explain(findings: Sequence[Finding], outcome: Outcome) -> str:
    """Say how many rules made the outcome, and name the first of them where they forbid."""
    decisive = [finding for finding in findings if finding.outcome == outcome]
    rules = [finding.rule for finding in decisive]
    count = len(rules)
    total = len(findings)
    if outcome == "passed":
        return f"{count} of {total} rules passed"
    verb = "are"
    if count == 1:
        verb = "is"
    named = ", ".join(rules[:_MOST_NAMED])
    if count > _MOST_NAMED:
        more = count - _MOST_NAMED
        named = f"{named} and {more} more"
    return f"{count} of {total} rules {verb} {outcome} ({named})"
