"""The sentence of a verdict, and each rule with both numbers."""

from collections.abc import Iterator, Sequence

from pipelines.values.verdict import Finding, Outcome
from registry.report.html import cut, element, section, shown, table
from registry.report.scored import Scored

_ORDER = {"rejected": 0, "undecided": 1, "passed": 2}
_LONGEST_FINDING = 1500
_MOST_NAMED = 6
_WORDS = {
    "passed": "passed screen",
    "rejected": "is rejected by screen",
    "undecided": "is undecided by screen",
}


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
    # The sentence has to stay one: the table below names every rule.
    named = ", ".join(rules[:_MOST_NAMED])
    if count > _MOST_NAMED:
        more = count - _MOST_NAMED
        named = f"{named} and {more} more"
    return f"{count} of {total} rules {verb} {outcome} ({named})"


def show_verdict(scored: Scored) -> str:
    """What a person reads first: the outcome, the rules that made it, the primary metric."""
    verdict = scored.verdict
    outcome = verdict.verdict
    reason = explain(verdict.findings, outcome)
    sentence = f"{scored.subject} {_WORDS[outcome]}: {reason}."
    primary = _describe_primary(scored)
    if primary:
        sentence = f"{sentence} {primary}."
    return element("p", cut(sentence, _LONGEST_FINDING), class_=f"sentence {outcome}")


def _describe_primary(scored: Scored) -> str:
    """The primary metric against every system; empty where it was compared with none."""
    name = scored.screen.primary
    parts = []
    for each in scored.comparisons:
        # The negative control is no system: nobody would release it instead.
        if each.metric == name and each.against in scored.evidence.systems:
            bounds = f"bounds {each.low:+.3g} to {each.high:+.3g}"
            parts.append(f"{each.difference:+.3g} against {each.against} ({bounds})")
    if not parts:
        return ""
    return f"{name}, positive is better: {', '.join(parts)}"


def show_screen_rules(scored: Scored) -> str:
    """Every rule of `screen`, what must change first."""
    findings = rules_table("The gate screen", scored.verdict.findings)
    return section("rules", "Rules", findings)


def rules_table(caption: str, findings: tuple[Finding, ...]) -> str:
    """A table of findings, what must change first."""
    titles = ("outcome", "rule", "found and wanted")
    return table(caption, titles, _rows(findings))


def _rows(findings: tuple[Finding, ...]) -> Iterator[tuple[str, str, str]]:
    # What has to change stands on top, where people begin to read.
    for finding in sorted(findings, key=lambda each: _ORDER[each.outcome]):
        outcome = element("b", shown(finding.outcome))
        yield (
            element("span", outcome, class_=finding.outcome),
            shown(finding.rule),
            cut(finding.text, _LONGEST_FINDING),
        )
