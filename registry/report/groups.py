"""Groups of people: how they differ in the answers and in the training data."""

from collections.abc import Iterator

from pipelines.values.dataset import BiasReport, GroupRate, Interval
from registry.report.html import LONGEST_CELL, cut, paragraph, section, shown, table
from registry.report.scored import Scored

_MOST_GROUPS = 100


def show_groups(scored: Scored) -> str:
    """How the groups of a sensitive feature differ, in the outputs and in the data."""
    parts = _groups(scored.scorecard.bias, "In the answers")
    if scored.data_bias is not None:
        parts += _groups(scored.data_bias, "In the training data")
    return section("groups", "Groups", *parts)


def _groups(report: BiasReport, place: str) -> list[str]:
    caption = f"{place}: {report.method}, by {report.metric}"
    if not report.groups:
        return [paragraph(f"{caption}. There are no groups to compare.")]
    # A feature may have any number of values.
    groups = report.groups[:_MOST_GROUPS]
    titles = ("group", "rows", "favourable", "score", "refused")
    rows = [_group(each, report) for each in groups]
    parts = [table(caption, titles, rows)]
    more = len(report.groups) - len(groups)
    if more:
        parts.append(paragraph(f"{more} more groups are in the scorecard."))
    for name, interval in _gaps(report):
        bounds = f"[{interval.low:.3g}, {interval.high:.3g}]"
        text = f"Largest {name} between groups: {interval.estimate:.3g} {bounds}."
        parts.append(paragraph(text))
    return parts


def _group(group: GroupRate, report: BiasReport) -> tuple[str, ...]:
    name = cut(group.group, LONGEST_CELL)
    # Too few rows say nothing, and must not look fair.
    if group.group in report.insufficient:
        fewest = report.min_group_size
        note = shown(f"(insufficient: under {fewest} rows)")
        name = f"{name} {note}"
    return (
        name,
        str(group.n),
        _number(group.rate),
        _number(group.score),
        _number(group.refused),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _gaps(report: BiasReport) -> Iterator[tuple[str, Interval]]:
    gaps = {
        "difference in score": report.score_difference,
        "difference in favourable rows": report.demographic_parity_difference,
        "difference in refusals": report.refusal_difference,
    }
    for name, interval in gaps.items():
        if interval is not None:
            yield name, interval
