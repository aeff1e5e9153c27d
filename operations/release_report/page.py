"""The page as a whole: one file, which loads nothing and runs nothing."""

from collections.abc import Callable
from pathlib import Path

from operations.release_report.facts import Facts
from operations.release_report.html import element, shown
from operations.release_report.record import (
    show_events,
    show_groups,
    show_identities,
    show_origin,
)
from operations.release_report.regressions import show_regressions
from operations.release_report.scores import show_differences, show_scores
from operations.release_report.verdict import show_rules, show_sentence

Section = Callable[[Facts], str]
SECTIONS: tuple[Section, ...] = (
    show_sentence,
    show_origin,
    show_rules,
    show_scores,
    show_differences,
    show_regressions,
    show_groups,
    show_events,
    show_identities,
)
"""In the order of the page; a section with nothing to show gives an empty text."""
# A file of its own, which the wheel holds and the page includes.
_STYLE = Path(__file__).with_name("style.css")
# A browser obeys it even if a text got past the escaping.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_page(facts: Facts) -> str:
    """Write the page; every text of it is escaped, and long ones are cut."""
    title = shown(f"{facts.subject}: release report")
    sections = [show(facts) for show in SECTIONS]
    style = _STYLE.read_text(encoding="utf-8")
    body = "\n".join(part for part in sections if part)
    moment = f"{facts.made_at:%Y-%m-%d %H:%M} UTC"
    note = element(
        "p", shown(f"Made at {moment} by `assay release report`."), class_="note"
    )
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{shown(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{style}</style></head>\n"
        f"<body><main><h1>{shown(facts.subject)}</h1>\n{body}\n{note}</main></body></html>\n"
    )
