"""Scores of every system, and how far apart they are: in numbers and in pictures."""

from collections.abc import Iterator

from pipelines.values.evidence import SystemScore
from registry.mlflow.card import format_score
from registry.report.html import element, paragraph, section, shown, table
from registry.report.paired import prompt_differences, reference_system
from registry.report.plot import draw_intervals, draw_prompts
from registry.report.scored import Scored

_ORDER = (
    "adapter",
    "champion",
    "retrieval",
    "few_shot",
    "base",
    "anchor",
)


def show_scores(scored: Scored) -> str:
    """Systems as columns, metrics as rows, each with its 95 % interval."""
    scorecard = scored.scorecard
    systems = sorted(scorecard.systems, key=lambda each: _ORDER.index(each.system))
    # A forged scorecard may hold none: the verdict says so.
    if not systems:
        return section("scores", "Scores", paragraph("No system was scored."))
    # In the order of the evidence: the adapter, what it was compared with, the base.
    names = [system.system for system in systems]
    rows = []
    for metric in systems[0].metrics:
        arrow = "↓"
        if metric.higher_is_better:
            arrow = "↑"
        scores = [_score(system, metric.name) for system in systems]
        rows.append((shown(f"{metric.name} {arrow}"), *scores))
    caption = (
        f"{scorecard.prompts} held-out prompts in {scorecard.clusters} clusters; "
        "95 % intervals by cluster bootstrap. An arrow says which way is better."
    )
    # An empty place in the table would leave that to be guessed.
    notes = []
    if "champion" not in names:
        notes.append(paragraph("There was no champion to compare with."))
    return section(
        "scores",
        "Scores",
        table(caption, ("metric", *names), rows),
        *notes,
    )


def _score(system: SystemScore, name: str) -> str:
    for metric in system.metrics:
        if metric.name == name:
            return shown(format_score(metric))
    return ""


def show_differences(scored: Scored) -> str:
    """A picture of each judged metric: against every system, and prompt by prompt."""
    parts: list[str] = []
    # Only what decided: other metrics stand in the table above.
    for metric in scored.judged_metrics:
        parts += _figures(scored, metric)
    if not parts:
        parts.append(paragraph("No metric was compared with another system."))
    return section("differences", "Differences", *parts)


def _figures(scored: Scored, metric: str) -> Iterator[str]:
    role = "guardrail"
    if metric == scored.screen.primary:
        role = "primary metric"
    yield element("h3", shown(f"{metric}, {role}"))
    yield _against_systems(scored, metric)
    yield _by_prompt(scored, metric)


def _against_systems(scored: Scored, metric: str) -> str:
    comparisons = [each for each in scored.comparisons if each.metric == metric]
    margin = scored.margin(metric)
    rows = []
    for each in comparisons:
        bounds = f"bounds {each.low:+.3g} to {each.high:+.3g}"
        difference = f"{each.against} {each.difference:+.3g}"
        rows.append(f"{difference}, {bounds}")
    listed = "; ".join(rows)
    words = f"Difference in {metric}, positive is better: {listed}."
    if margin is not None:
        words += f" Dashed: {margin:g} may be lost."
    picture = draw_intervals(comparisons, margin, words)
    return _figure(picture, words)


def _by_prompt(scored: Scored, metric: str) -> str:
    against = reference_system(scored.evidence)
    if against is None or metric not in scored.evidence.metrics:
        return ""
    differences = prompt_differences(scored.evidence, metric, against)
    if not differences:
        return paragraph(f"No single prompt has a {metric} of its own.")
    numbers = [each.difference for each in differences]
    better = sum(number > 0 for number in numbers)
    worse = sum(number < 0 for number in numbers)
    total = len(scored.evidence.prompt_ids)
    words = (
        f"{metric} of each prompt against {against}, sorted: {better} better, {worse} worse, "
        f"{len(numbers) - better - worse} equal, of {total} prompts."
    )
    left_out = total - len(numbers)
    if left_out:
        words += f" {left_out} have no number of their own."
    interval = scored.comparison(metric, against)
    if interval is not None:
        words += " The band is the interval over all prompts."
    return _figure(draw_prompts(numbers, interval, words), words)


def _figure(picture: str, words: str) -> str:
    caption = element("figcaption", shown(words))
    return element("figure", f"{picture}{caption}")
