"""The sentence of `judge`, and each rule of both gates with both numbers."""

from operations.release_report.facts import Facts
from registry.report.html import element, section, shown
from registry.report.rules import rules_table


def show_sentence(facts: Facts) -> str:
    """What a release manager reads first."""
    outcome = facts.judgement.verdict.verdict
    return element("p", shown(facts.sentence), class_=f"sentence {outcome}")


def show_rules(facts: Facts) -> str:
    """Every rule of `judge`, what must change first, then those of `screen`."""
    judged = facts.judgement.verdict.findings
    screened = facts.judgement.finalist.findings
    return section(
        "rules",
        "Rules",
        rules_table("The gate judge, now", judged),
        rules_table("The gate screen, when it was registered", screened),
    )
