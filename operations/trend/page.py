"""The trend of a model on one page, which needs nothing else."""

from collections.abc import Iterator

from operations.trend.collect import Series, Trend, against, format_time
from registry.mlflow.recorded import Point, ScoredRun
from registry.report.frame import frame
from registry.report.html import (
    LONGEST_CELL,
    cut,
    element,
    paragraph,
    section,
    shown,
    table,
)
from registry.report.timeline import draw_timeline

MOST_RUNS = 400
"""Rows of the table: the newest ones."""


def render_trend(trend: Trend) -> str:
    """Write the page; every text of it is escaped, and long ones are cut."""
    heading = f"{trend.metric} of {trend.model}"
    sections = (
        element("p", cut(summarise(trend), LONGEST_CELL), class_="sentence"),
        *(_show_series(trend, series) for series in trend.series),
        _show_releases(trend),
        _show_runs(trend),
    )
    return frame(f"{heading}: trend", heading, sections)


def summarise(trend: Trend) -> str:
    """How many runs there are, over which time, and how many are left out."""
    first = format_time(trend.runs[0].at)
    last = format_time(trend.runs[-1].at)
    changes = len(trend.marks)
    runs = len(trend.runs)
    text = f"{runs} runs from {first} to {last}; what serves changed {changes} times."
    # A gap in the picture has to be told from a time without runs.
    if trend.left_out:
        text += f" {trend.left_out} runs did not log {trend.metric}."
    if trend.note:
        text += f" {trend.note}"
    return text


def format_point(point: Point | None) -> str:
    """A number with its bounds; empty where there is none."""
    if point is None:
        return ""
    return f"{point.estimate:.4g} [{point.low:.4g}, {point.high:.4g}]"


def cells(run: ScoredRun, metric: str) -> tuple[str, ...]:
    """One run as a row of texts."""
    return (
        format_time(run.at),
        "re-score" if run.is_rescore else "candidate",
        run.version or "",
        run.verdict,
        format_point(run.point(f"score.adapter.{metric}")),
        format_point(run.point(f"score.champion.{metric}")),
        format_point(against(run, "better", metric)),
        format_point(against(run, "sealed", metric)),
    )


TITLES = (
    *("at", "kind", "version", "verdict", "adapter", "champion"),
    *("gain, standing", "gain, sealed"),
)


def _show_series(trend: Trend, series: Series) -> str:
    # An anchor that can be linked to, from the words of the title.
    name = series.title.lower().replace(" ", "-")
    if not series.points:
        return section(name, series.title, paragraph("There is no such run yet."))
    # The same words for whoever sees the picture and for whoever has it read aloud.
    words = (
        f"{series.title}: {trend.metric} of {len(series.points)} runs. {series.words}"
    )
    if trend.marks:
        words += " Vertical lines: what began to serve."
    picture = draw_timeline(series.points, trend.marks, words)
    caption = element("figcaption", shown(words))
    return section(name, series.title, element("figure", f"{picture}{caption}"))


def _show_releases(trend: Trend) -> str:
    if not trend.marks:
        return section("releases", "Releases", paragraph("Nothing was released yet."))
    rows = [
        (shown(format_time(mark.at)), cut(mark.words, LONGEST_CELL))
        for mark in trend.marks[-MOST_RUNS:]
    ]
    caption = "By the ledger, oldest first"
    return section("releases", "Releases", table(caption, ("at", "what"), rows))


def _show_runs(trend: Trend) -> str:
    # Pictures show every run; a table of years would be read by nobody.
    rows = list(_rows(trend))
    caption = f"By MLflow, oldest first; {trend.metric} with 95 % intervals, gains with bounds"
    parts = [table(caption, TITLES, rows)]
    earlier = len(trend.runs) - len(rows)
    if earlier:
        parts.append(paragraph(f"{earlier} earlier runs are not in the table."))
    return section("runs", "Runs", *parts)


def _rows(trend: Trend) -> Iterator[tuple[str, ...]]:
    for run in trend.runs[-MOST_RUNS:]:
        texts = cells(run, trend.metric)
        yield tuple(cut(text, LONGEST_CELL) for text in texts)
