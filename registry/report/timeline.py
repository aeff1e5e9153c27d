"""Numbers over time as inline SVG, with bounds, and lines where something changed."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from core.value import Value
from registry.mlflow.recorded import Point
from registry.report.html import element, shown
from registry.report.plot import Scale

_WIDTH, _HEIGHT = 760, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 16, 34
_MOST_POINTS = 800
"""More than that are drawn as the newest ones: a page must open."""
_MOST_NAMED = 15
"""Lines beyond that bear no name, which nobody could read."""


class Mark(Value):
    """A change at a time."""

    at: datetime
    name: str
    words: str


def draw_timeline(points: Sequence[Point], marks: Sequence[Mark], title: str) -> str:
    """Draw at least one point with its bounds, and a line for each mark of that time."""
    shown_points = points[-_MOST_POINTS:]
    times = _time_scale(shown_points)
    numbers = _number_scale(shown_points)
    parts = [*_axes(numbers, shown_points)]
    # A line beyond the ends would be drawn at the edge, where nothing happened.
    within = [mark for mark in marks if _is_within(mark, times)]
    parts += _marks(within, times)
    for point in shown_points:
        drawn = _point(point, times, numbers)
        parts += drawn
    name = element("title", shown(title))
    picture = "".join(parts)
    content = f"{name}{picture}"
    return element(
        "svg",
        content,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=title,
    )


def _is_within(mark: Mark, times: Scale) -> bool:
    moment = mark.at.timestamp()
    return times.low <= moment <= times.high


def _time_scale(points: Sequence[Point]) -> Scale:
    # In seconds, which a scale can divide.
    times = [point.at.timestamp() for point in points]
    # An hour around a single run: a scale needs a width.
    room = max((max(times) - min(times)) / 40, 3600.0)
    return Scale(min(times) - room, max(times) + room, _LEFT, _WIDTH - _RIGHT)


def _number_scale(points: Sequence[Point]) -> Scale:
    low = min(point.low for point in points)
    high = max(point.high for point in points)
    # Without zero: scores of a year lie near to each other and far from it.
    room = (high - low) / 12 or max(abs(high), 1.0) / 12
    return Scale(low - room, high + room, _HEIGHT - _BOTTOM, _TOP)


def _point(point: Point, times: Scale, numbers: Scale) -> Iterator[str]:
    x = times.at(point.at.timestamp())
    low = numbers.at(point.low)
    high = numbers.at(point.high)
    middle = numbers.at(point.estimate)
    yield f'<path class="interval" d="M{x} {low}V{high}"/>'
    yield f'<circle class="point" cx="{x}" cy="{middle}" r="4"/>'


def _marks(marks: Sequence[Mark], times: Scale) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    for mark in marks:
        x = times.at(mark.at.timestamp())
        line = f"M{x} {_TOP}V{bottom}"
        yield f'<path class="margin" d="{line}"/>'
        if len(marks) <= _MOST_NAMED:
            name = shown(mark.name)
            yield f'<text class="soft" x="{x + 3}" y="{_TOP + 4}">{name}</text>'


def _axes(numbers: Scale, points: Sequence[Point]) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    right = _WIDTH - _RIGHT
    yield f'<path class="axis" d="M{_LEFT} {bottom}H{right}"/>'
    # The ends of the data, and not of the picture, whose numbers mean nothing.
    low = min(point.low for point in points)
    high = max(point.high for point in points)
    for number in dict.fromkeys((low, high)):
        y = numbers.at(number) + 4
        text = f"{number:.4g}"
        yield (
            f'<text class="soft" x="{_LEFT - 8}" y="{y}" text-anchor="end">{text}</text>'
        )
    if low < 0 < high:
        y = numbers.at(0)
        yield f'<path class="axis" d="M{_LEFT} {y}H{right}"/>'
    yield _date(points[0].at, _LEFT, "start")
    if len(points) > 1:
        yield _date(points[-1].at, right, "end")


def _date(at: datetime, x: int, anchor: str) -> str:
    y = _HEIGHT - 10
    text = f"{at:%Y-%m-%d}"
    return f'<text class="soft" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
