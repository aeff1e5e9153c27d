"""The page of a scorecard: passed, rejected or undecided, it shows the same."""

from pathlib import Path

from registry.report.errors import show_errors
from registry.report.frame import frame
from registry.report.groups import show_groups
from registry.report.methods import show_methods, show_uncovered
from registry.report.regressions import show_regressions
from registry.report.rules import show_screen_rules, show_verdict
from registry.report.scored import Scored
from registry.report.scores import show_differences, show_scores
from registry.report.slices import show_slices

PAGE = "scorecard.html"
"""The page's name among the evidence."""


def render_scorecard(folder: Path, subject: str) -> str:
    """The page of the evidence in a folder; `subject` says whose it is.

    The same evidence gives the same page, byte for byte. `DamagedFile` or `IncompleteEvidence`
    where it does not hold together.
    """
    scored = Scored(folder, subject)
    # A page about other evidence than the scorecard's would be believed.
    scored.check()
    sections = (
        show_verdict(scored),
        show_screen_rules(scored),
        show_scores(scored),
        show_differences(scored),
        show_slices(scored),
        show_regressions(scored),
        show_groups(scored),
        show_errors(scored),
        show_methods(scored),
        show_uncovered(scored),
    )
    return frame(f"{subject}: scorecard", subject, sections)
