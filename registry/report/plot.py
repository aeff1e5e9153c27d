"""Plots as inline SVG: intervals against each system, and the differences of all prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.gates.comparisons import OTHERS
from pipelines.values.verdict import Comparison
from registry.report.html import element, shown

_WIDTH, _LEFT, _RIGHT = 640, 130, 20
_ROW, _TOP, _BOTTOM = 26, 12, 24
_BARS_HIGH = 120
_SHORT = {OTHERS: "negative control"}
_CLOSE = {"x": 45.0, "y": 13.0}
"""Pixels: a label nearer to that of zero than this would lie over it."""
_MOST_BARS = 300
"""More prompts than that are drawn as the means of neighbours: nobody could tell them apart."""


@dataclass(frozen=True)
class Scale:
    """From a number to a place, in pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, number: float) -> float:
        """The place of a number; one beyond an end is drawn at that end."""
        span = self.high - self.low
        share = (number - self.low) / span
        inside = min(1.0, max(0.0, share))
        place = self.start + inside * (self.end - self.start)
        return round(place, 1)


def scale_over(numbers: Sequence[float], start: float, end: float) -> Scale:
    """A scale that holds every number, and zero; never one without a width."""
    low = min(0.0, *numbers, 0.0)
    high = max(0.0, *numbers, 0.0)
    if not high > low:
        low, high = -1.0, 1.0
    # A point at the very edge would be cut in half.
    room = (high - low) / 20
    return Scale(low - room, high + room, start, end)


class Line(NamedTuple):
    """A number with its bounds, and what it is called."""

    name: str
    at: float
    low: float
    high: float


def draw_intervals(
    comparisons: Sequence[Comparison], margin: float | None, title: str
) -> str:
    """One line a system: difference and bounds, zero, and the margin that may be lost."""
    lines = []
    for each in comparisons:
        name = _SHORT.get(each.against, each.against)
        line = Line(
            name,
            each.difference,
            each.low,
            each.high,
        )
        lines.append(line)
    return draw_lines(lines, title, margin)


def draw_lines(lines: Sequence[Line], title: str, margin: float | None = None) -> str:
    """One line each: number and bounds, zero, and the margin where there is one."""
    # The margin is part of the picture, however far the bounds are from it.
    ends = []
    for line in lines:
        ends += [line.low, line.high]
    if margin is not None:
        ends.append(-margin)
    scale = scale_over(ends, _LEFT, _WIDTH - _RIGHT)
    bottom = _TOP + _ROW * len(lines)
    parts = [_vertical(scale.at(0), bottom, "axis")]
    if margin is not None:
        parts.append(_vertical(scale.at(-margin), bottom, "margin"))
    for number, line in enumerate(lines):
        top = _TOP + _ROW * number
        middle = top + _ROW / 2
        parts += _interval(line, scale, middle)
    parts += _ticks(scale, bottom)
    return _svg(title, bottom + _BOTTOM, parts)


def _interval(line: Line, scale: Scale, middle: float) -> Iterator[str]:
    low = scale.at(line.low)
    high = scale.at(line.high)
    center = scale.at(line.at)
    name = shown(line.name)
    yield f'<text x="{_LEFT - 10}" y="{middle + 4}" text-anchor="end">{name}</text>'
    yield f'<path class="interval" d="M{low} {middle}H{high}"/>'
    yield f'<circle class="point" cx="{center}" cy="{middle}" r="5"/>'


def draw_prompts(
    differences: Sequence[float], interval: Comparison | None, title: str
) -> str:
    """Draw a bar for each prompt, sorted; the band is the interval of the whole."""
    bars = thin_out(differences)
    # The band has to lie inside as well.
    edges = list(bars)
    if interval is not None:
        edges += [interval.low, interval.high]
    bottom = _TOP + _BARS_HIGH
    scale = scale_over(edges, bottom, _TOP)
    parts = [*_bars(bars, scale)]
    if interval is not None:
        top = scale.at(interval.high)
        height = round(max(1.0, scale.at(interval.low) - top), 1)
        width = _WIDTH - _LEFT - _RIGHT
        parts.append(
            f'<rect class="band" x="{_LEFT}" y="{top}" width="{width}" height="{height}"/>'
        )
    zero = scale.at(0)
    parts.append(f'<path class="axis" d="M{_LEFT} {zero}H{_WIDTH - _RIGHT}"/>')
    for number in _labelled(scale, "y"):
        place = scale.at(number) + 4
        label = f"{number:+.3g}"
        parts.append(
            f'<text class="soft" x="{_LEFT - 10}" y="{place}" text-anchor="end">{label}</text>'
        )
    return _svg(title, bottom + _BOTTOM, parts)


def thin_out(differences: Sequence[float]) -> tuple[float, ...]:
    """At most `_MOST_BARS` numbers in the same order: means of neighbours where there are more."""
    count = len(differences)
    if count <= _MOST_BARS:
        return tuple(differences)
    bars = []
    # Neighbours in the sorted order are alike, so that their mean hides little.
    for number in range(_MOST_BARS):
        start = number * count // _MOST_BARS
        end = (number + 1) * count // _MOST_BARS
        part = differences[start:end]
        bars.append(sum(part) / len(part))
    return tuple(bars)


def _bars(bars: Sequence[float], scale: Scale) -> Iterator[str]:
    width = _WIDTH - _LEFT - _RIGHT
    step = width / max(1, len(bars))
    zero = scale.at(0)
    # Two paths, whatever the number of prompts: the page stays small.
    paths = {"good": "", "bad": ""}
    for number, difference in enumerate(bars):
        left = round(_LEFT + number * step, 1)
        # Equal counts as neither; a bar without height is not seen.
        kind = "good" if difference > 0 else "bad"
        end = scale.at(difference)
        paths[kind] += f"M{left} {zero}h{step * 0.8:.2f}V{end}h-{step * 0.8:.2f}z"
    for kind, path in paths.items():
        if path:
            yield f'<path class="{kind}" d="{path}"/>'


def _vertical(place: float, bottom: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{place} {_TOP}V{bottom}"/>'


def _ticks(scale: Scale, bottom: float) -> Iterator[str]:
    for number in _labelled(scale, "x"):
        place = scale.at(number)
        label = f"{number:+.3g}"
        # The last one would reach beyond the picture.
        anchor = "middle"
        if number == scale.high:
            anchor = "end"
        yield (
            f'<text class="soft" x="{place}" y="{bottom + 16}" '
            f'text-anchor="{anchor}">{label}</text>'
        )


def _labelled(scale: Scale, axis: str) -> Iterator[float]:
    """Zero, and each end that is far enough from it."""
    zero = scale.at(0)
    yield 0.0
    for end in (scale.low, scale.high):
        gap = abs(scale.at(end) - zero)
        if gap > _CLOSE[axis]:
            yield end


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    """A picture with its words, for whoever cannot see it."""
    content = element("title", shown(title)) + "".join(parts)
    return element(
        "svg",
        content,
        viewBox=f"0 0 {_WIDTH} {height}",
        role="img",
        aria_label=title,
    )
