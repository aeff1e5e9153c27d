"""How each canary of the version went: its signals over time, beside those of the baseline."""

from collections.abc import Callable, Iterator, Sequence

from operations.release_report.facts import Facts
from registry.release.canary_counts import CHARACTERS, SECONDS, Histogram, SideCounts
from registry.release.canary_series import CanaryLook
from registry.report.curves import Curve, CurvePoint, Step, draw_curve
from registry.report.html import element, paragraph, section, shown

Measure = Callable[[SideCounts], float | None]
_MOST_CANARIES = 5
"""The newest: a version that is tried out a hundred times still has a page."""


def show_canaries(facts: Facts) -> str:
    """Draw every canary whose counts were kept; empty where there is none."""
    # A release without a canary, or from before counts were kept, has none.
    kept = [(begun, looks) for begun, looks in facts.canaries.items() if looks]
    if not kept:
        return ""
    parts = [
        paragraph(
            "Solid: the candidate. Dashed: the baseline, at the same time. Counts add up from the "
            "first step on, and begin again with the switch. Vertical: a step, and the share of "
            "the requests that the candidate gets from there on."
        )
    ]
    for begun, looks in kept[-_MOST_CANARIES:]:
        parts.append(element("h3", shown(_heading(begun, looks))))
        parts.append(_figures(looks))
    return section("canaries", "Canary", *parts)


def _figures(looks: Sequence[CanaryLook]) -> str:
    # The same steps in each, so that one can look from signal to signal.
    steps = _steps(looks)
    figures = [draw_curve(curve, steps) for curve in _curves(looks)]
    content = "".join(figures)
    return element("div", content, class_="curves")


def _heading(begun: int, looks: Sequence[CanaryLook]) -> str:
    last = looks[-1]
    sides = last.report
    return (
        f"Release of entry {begun}: {sides.candidate.requests} requests of the candidate and "
        f"{sides.baseline.requests} of the baseline at the last look, "
        f"{last.at:%Y-%m-%d %H:%M:%S}Z"
    )


def _curves(looks: Sequence[CanaryLook]) -> Iterator[Curve]:
    measures: tuple[tuple[str, str, Measure], ...] = (
        ("errors", " %", _share("errors")),
        ("refusals", " %", _share("refusals")),
        ("empty answers", " %", _share("empties")),
        ("latency, median", " s", lambda side: _median(side.latency, SECONDS)),
        ("first text, median", " s", lambda side: _median(side.first_token, SECONDS)),
        ("characters, median", "", lambda side: _median(side.length, CHARACTERS)),
    )
    started = looks[0].at
    for title, unit, measure in measures:
        points = []
        for look in looks:
            seconds = (look.at - started).total_seconds()
            report = look.report
            point = CurvePoint(
                # A clock that was set back draws nothing before the beginning.
                max(0.0, seconds),
                measure(report.candidate),
                measure(report.baseline),
            )
            points.append(point)
        yield Curve(title, unit, tuple(points))


def _steps(looks: Sequence[CanaryLook]) -> tuple[Step, ...]:
    """Where the candidate's share of the requests changed."""
    started = looks[0].at
    steps: list[Step] = []
    weight: int | None = None
    for look in looks:
        # Most looks follow each other within one step.
        if look.weight == weight:
            continue
        weight = look.weight
        seconds = (look.at - started).total_seconds()
        steps.append(Step(max(0.0, seconds), f"{weight} %"))
    return tuple(steps)


def _share(name: str) -> Measure:
    """Percent of a side's requests of which that is true."""

    def measure(side: SideCounts) -> float | None:
        # No share yet, and not zero: a side that was asked nothing made no errors.
        requests = side.requests
        if requests == 0:
            return None
        count: int = getattr(side, name)
        # A file that was edited may hold more than there were, also more than a float can.
        among = min(count, requests)
        return 100 * among / requests

    return measure


def _median(histogram: Histogram, edges: Sequence[float]) -> float | None:
    """The edge that half of the observations are not over; None without any."""
    if histogram.total == 0:
        return None
    # The endpoint keeps counts and no times, so an edge is all that can be said.
    passed = 0
    for place, edge in enumerate(edges):
        passed += histogram.counts[place]
        if 2 * passed >= histogram.total:
            return edge
    # Over the last edge nothing more is known.
    return edges[-1]
