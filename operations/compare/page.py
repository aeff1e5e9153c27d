"""Two sides on one page, which needs nothing else."""

from collections.abc import Iterator
from typing import Literal

from operations.compare.differ import Change, Comparing, MetricDifference, TwoSides
from pipelines.values.dataset import Interval
from registry.report.frame import frame
from registry.report.html import element, paragraph, section, shown, table
from registry.report.methods import show_methods
from registry.report.plot import Line, draw_lines
from registry.report.regressions import Named, side_by_side
from registry.report.slices import count_characters, parts_table

_NOTES = (
    "Nothing is decided by this page: a release needs the verdict of `screen`, on all of its rows.",
    "Many metrics and parts are shown at one level: of twenty that are equal one looks different.",
    "Only standing held-out rows are read: rows of the sealed reserve are not among them.",
)


def render_comparison(comparing: Comparing, found: TwoSides) -> str:
    """Write the page; every text of it is escaped, and long ones are cut."""
    heading = f"{found.second} against {found.first}"
    sentence = shown(summarise(found))
    sections = (
        element("p", sentence, class_="sentence"),
        _show_metrics(found),
        _show_parts(comparing, found),
        _show_changes(comparing, found, "worse"),
        _show_changes(comparing, found, "better"),
        _show_method(comparing),
        section("uncovered", "What this does not say", *map(paragraph, _NOTES)),
    )
    title = f"{heading}: comparison"
    return frame(title, heading, sections)


def summarise(found: TwoSides) -> str:
    """The primary metric in a sentence."""
    # The policy decides by the first one; the others only guard.
    primary = found.metrics[0]
    bounds = f"bounds {primary.low:+.3g} to {primary.high:+.3g}"
    return (
        f"On {found.shared} prompts in {found.clusters} clusters, {found.second} is "
        f"{primary.says} in {primary.metric}: {primary.difference:+.3g} ({bounds}) against "
        f"{found.first}."
    )


def describe_rows(found: TwoSides) -> str:
    """Which prompts are compared, and which are not."""
    return (
        f"{found.shared} prompts in {found.clusters} clusters are compared; {found.only_first} "
        f"were asked {found.first} alone, {found.only_second} {found.second} alone, and "
        f"{found.changed} have other references."
    )


def format_interval(interval: Interval) -> str:
    """A score with its 95 % interval."""
    return f"{interval.estimate:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def _show_metrics(found: TwoSides) -> str:
    rows = [_cells(each) for each in found.metrics]
    titles = ("metric", found.first, found.second, "difference", "bounds", "")
    caption = (
        f"95 % intervals; the difference is better where it is positive, with one-sided bounds at "
        f"a level of {found.level:g} each"
    )
    parts = [paragraph(describe_rows(found)), table(caption, titles, rows)]
    parts += [_figure(each) for each in found.metrics]
    parts += [paragraph(f"Not compared: {reason}.") for reason in found.not_compared]
    return section("metrics", "Metrics", *parts)


def _figure(each: MetricDifference) -> str:
    """A picture of one metric: each has a unit of its own, and so a scale of its own."""
    bounds = f"bounds {each.low:+.3g} to {each.high:+.3g}"
    words = f"{each.metric}, positive is better: {each.difference:+.3g}, {bounds}."
    # Drawn against zero: only on which side of it the bounds lie says something.
    line = Line(
        "difference",
        each.difference,
        each.low,
        each.high,
    )
    caption = element("figcaption", shown(words))
    return element("figure", f"{draw_lines([line], words)}{caption}")


def _cells(each: MetricDifference) -> tuple[str, ...]:
    # A lower perplexity is a better one, which no number says.
    arrow = "↑" if each.higher_is_better else "↓"
    return (
        shown(f"{each.metric} {arrow}"),
        shown(format_interval(each.first)),
        shown(format_interval(each.second)),
        shown(f"{each.difference:+.3g}"),
        shown(f"{each.low:+.3g} to {each.high:+.3g}"),
        shown(each.says),
    )


def _show_parts(comparing: Comparing, found: TwoSides) -> str:
    characters = count_characters(comparing.second.scored, comparing.shared.prompt_ids)
    described = comparing.shared.described(comparing.tables[1], characters)
    # The primary metric alone: parts times metrics would be a page of chance.
    pair = comparing.pair(found.primary)
    # In the order of the pair: the second side is the one that may be better.
    titles = (found.second, found.first)
    return section(
        "slices",
        "Parts of the prompts",
        parts_table(titles, described, pair, comparing.policy),
    )


def _show_changes(
    comparing: Comparing, found: TwoSides, way: Literal["worse", "better"]
) -> str:
    changes = found.worse if way == "worse" else found.better
    title = f"What got {way}"
    # A section that is left out would look like one that was forgotten.
    if not changes:
        return section(way, title, paragraph("No prompt did."))
    boxes = _boxes(comparing, found, changes)
    return section(way, title, *boxes)


def _boxes(
    comparing: Comparing, found: TwoSides, changes: tuple[Change, ...]
) -> Iterator[str]:
    first, second = comparing.tables
    ids = [change.prompt_id for change in changes]
    # The texts of these alone: the files may hold a million others.
    of_first = first.answers("adapter", ids)
    of_second = second.answers("adapter", ids)
    prompts = comparing.second.scored.prompts
    for change in changes:
        name = change.prompt_id
        heading = f"{change.difference:+.3g} {found.primary}, group {change.group}"
        yield element("h3", shown(heading))
        yield side_by_side(
            prompts.get(name),
            Named(found.second, of_second[name]),
            Named(found.first, of_first[name]),
        )


def _show_method(comparing: Comparing) -> str:
    parts = []
    # Two sections with one anchor could not both be linked to.
    for side, name in ((comparing.first, "methods-a"), (comparing.second, "methods-b")):
        parts.append(show_methods(side.scored, name, f"Methods: {side.name}"))
    return "\n".join(parts)
