"""The prompts that got worse by the most, with all answers side by side."""

from typing import NamedTuple

from pipelines.scoring.evidence_table import Answer
from registry.report.html import cut, element, paragraph, section, shown
from registry.report.paired import (
    prompt_differences,
    reference_system,
)
from registry.report.scored import Scored

MOST_SHOWN = 10
_MOST_REFERENCES = 3
_LONGEST_REFERENCE = 400


class Named(NamedTuple):
    """An answer, and who gave it."""

    name: str
    answer: Answer


def show_regressions(scored: Scored) -> str:
    """The worst of them by the primary metric."""
    against = reference_system(scored.evidence)
    primary = scored.screen.primary
    if against is None or primary not in scored.evidence.metrics:
        none = paragraph("There is no other system's answer to compare with.")
        return section("regressions", "Worst regressions", none)
    every = prompt_differences(scored.evidence, primary, against)
    # What is equal is no regression, and fills no page.
    worse = [each for each in every if each.difference < 0]
    words = (
        f"{len(worse)} of {len(every)} prompts got worse than {against} by {primary}."
    )
    if len(worse) > MOST_SHOWN:
        words += f" These are the {MOST_SHOWN} worst."
    worst = worse[:MOST_SHOWN]
    # The texts of these alone: the file may hold a million others.
    prompt_ids = [difference.prompt_id for difference in worst]
    rows = scored.evidence.answers("adapter", prompt_ids)
    others = scored.evidence.answers(against, prompt_ids)
    parts = []
    for difference in worst:
        own = rows[difference.prompt_id]
        other = others[difference.prompt_id]
        heading = f"{difference.difference:+.3g} {primary}, group {own.group}"
        parts.append(element("h3", shown(heading)))
        prompt = scored.prompts.get(difference.prompt_id)
        boxes = side_by_side(prompt, Named(scored.called, own), Named(against, other))
        parts.append(boxes)
    return section("regressions", "Worst regressions", paragraph(words), *parts)


def side_by_side(prompt: str | None, own: Named, other: Named) -> str:
    """One prompt with its reference and two answers to it, each with the name of who gave it."""
    answer = own.answer
    # Packages from before held-out rows were kept.
    unknown = f"prompt {answer.prompt_id}; the package does not hold its text"
    boxes = [
        _box("prompt", cut(prompt or unknown)),
        _box("reference", _references(answer)),
        _box(f"{other.name}'s answer", cut(other.answer.prediction)),
        _box(f"{own.name}'s answer", cut(answer.prediction)),
    ]
    return element("div", "".join(boxes), class_="answers")


def _references(answer: Answer) -> str:
    references = answer.references
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
