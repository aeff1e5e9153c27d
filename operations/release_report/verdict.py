"""The sentence, and each rule with both numbers."""

from collections.abc import Iterator

from operations.release_report.facts import Facts
from operations.release_report.html import cut, element, section, shown, table
from pipelines.values.verdict import Finding

_ORDER = {"rejected": 0, "undecided": 1, "passed": 2}
_LONGEST_FINDING = 1500


def show_sentence(facts: Facts) -> str:
    """What a release manager reads first."""
    outcome = facts.judgement.verdict.verdict
    return element("p", shown(facts.sentence), class_=f"sentence {outcome}")


def show_rules(facts: Facts) -> str:
    """Every rule of `judge`, what must change first, then those of `screen`."""
    judged = _rows(facts.judgement.verdict.findings)
    screened = _rows(facts.judgement.finalist.findings)
    titles = ("outcome", "rule", "found and wanted")
    return section(
        "rules",
        "Rules",
        table("The gate judge, now", titles, judged),
        table("The gate screen, when it was registered", titles, screened),
    )


def _rows(findings: tuple[Finding, ...]) -> Iterator[tuple[str, str, str]]:
    for finding in sorted(findings, key=lambda each: _ORDER[each.outcome]):
        outcome = element("b", shown(finding.outcome))
        yield (
            element("span", outcome, class_=finding.outcome),
            shown(finding.rule),
            cut(finding.text, _LONGEST_FINDING),
        )
