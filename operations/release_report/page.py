"""The page of a version as a whole: its scorecard's sections, between what became of it."""

from operations.release_report.canaries import show_canaries
from operations.release_report.facts import Facts
from operations.release_report.record import show_events, show_identities, show_origin
from operations.release_report.verdict import show_rules, show_sentence
from registry.report.errors import show_errors
from registry.report.frame import frame
from registry.report.groups import show_groups
from registry.report.methods import show_methods, show_uncovered
from registry.report.regressions import show_regressions
from registry.report.scores import show_differences, show_scores
from registry.report.slices import show_slices


def render_page(facts: Facts) -> str:
    """Write the page; every text of it is escaped, and long ones are cut."""
    scored = facts.scored
    sections = (
        show_sentence(facts),
        show_origin(facts),
        show_rules(facts),
        show_scores(scored),
        show_differences(scored),
        show_canaries(facts),
        show_slices(scored),
        show_regressions(scored),
        show_groups(scored),
        show_errors(scored),
        show_events(facts),
        show_identities(facts),
        show_methods(scored),
        show_uncovered(scored),
    )
    moment = f"{facts.made_at:%Y-%m-%d %H:%M} UTC"
    return frame(
        f"{facts.subject}: release report",
        facts.subject,
        sections,
        f"Made at {moment} by `assay release report`.",
    )
