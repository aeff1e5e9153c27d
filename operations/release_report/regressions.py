"""The prompts that got worse by the most, with all answers side by side."""

from operations.release_report.facts import Facts
from operations.release_report.html import cut, element, paragraph, section, shown
from operations.release_report.paired import (
    PromptDifference,
    prompt_differences,
    reference_system,
)
from pipelines.scoring.evidence_file import EvidenceRow
from pipelines.values.evidence import System

MOST_SHOWN = 10
_MOST_REFERENCES = 3
_LONGEST_REFERENCE = 400


def show_regressions(facts: Facts) -> str:
    """The worst of them by the primary metric."""
    against = reference_system(facts.evidence)
    primary = facts.screen.primary
    if against is None or primary not in facts.evidence.metrics:
        none = paragraph("There is no other system's answer to compare with.")
        return section("regressions", "Worst regressions", none)
    every = prompt_differences(facts.evidence, primary, against)
    # What is equal is no regression, and fills no page.
    worse = [each for each in every if each.difference < 0]
    words = (
        f"{len(worse)} of {len(every)} prompts got worse than {against} by {primary}."
    )
    if len(worse) > MOST_SHOWN:
        words += f" These are the {MOST_SHOWN} worst."
    rows = _rows_by_prompt(facts, "adapter")
    others = _rows_by_prompt(facts, against)
    parts = []
    for difference in worse[:MOST_SHOWN]:
        own = rows[difference.prompt_id]
        other = others[difference.prompt_id]
        heading = f"{difference.difference:+.3g} {primary}, group {own.group}"
        parts.append(element("h3", shown(heading)))
        parts.append(_side_by_side(facts, difference, own, other))
    return section("regressions", "Worst regressions", paragraph(words), *parts)


def _rows_by_prompt(facts: Facts, system: System) -> dict[str, EvidenceRow]:
    rows = facts.evidence.rows[system]
    return {row.row.prompt_id: row for row in rows}


def _side_by_side(
    facts: Facts, difference: PromptDifference, own: EvidenceRow, other: EvidenceRow
) -> str:
    # Packages from before held-out rows were kept.
    unknown = f"prompt {difference.prompt_id}; the package does not hold its text"
    prompt = facts.prompts.get(difference.prompt_id, unknown)
    boxes = [
        _box("prompt", cut(prompt)),
        _box("reference", _references(own)),
        _box(f"{other.system}'s answer", cut(other.row.prediction)),
        _box("this version's answer", cut(own.row.prediction)),
    ]
    return element("div", "".join(boxes), class_="answers")


def _references(row: EvidenceRow) -> str:
    references = row.row.references
    texts = [cut(text, _LONGEST_REFERENCE) for text in references[:_MOST_REFERENCES]]
    more = len(references) - _MOST_REFERENCES
    if more > 0:
        texts.append(shown(f"… and {more} more"))
    return "\n".join(texts)


def _box(title: str, content: str) -> str:
    # An empty answer is one, and has to be seen.
    if not content:
        content = '<em class="cut">empty</em>'
    heading = element("h4", shown(title))
    text = element("p", content, class_="data", dir="auto")
    return element("div", f"{heading}{text}")
