"""Two lines over time as inline SVG: a candidate, and what it is compared with."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from registry.report.html import element, shown
from registry.report.plot import Scale

_WIDTH, _HEIGHT = 360, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 22, 24
_MOST_POINTS = 300
"""More than that are drawn as every second, third, … one: nobody could tell them apart."""


class CurvePoint(NamedTuple):
    """Both numbers at one time; None is where a side has none yet."""

    seconds: float
    candidate: float | None
    baseline: float | None


class Step(NamedTuple):
    """Since when the candidate has a share of the requests."""

    seconds: float
    name: str


class Curve(NamedTuple):
    """One signal over time."""

    title: str
    unit: str
    points: tuple[CurvePoint, ...]


def draw_curve(curve: Curve, steps: Sequence[Step]) -> str:
    """Draw both sides of a signal, with a line where each step began."""
    points = _thinned(curve.points)
    times = Scale(0.0, _last(points), _LEFT, _WIDTH - _RIGHT)
    numbers = _number_scale(points)
    parts = [*_axes(curve, times, numbers), *_steps(steps, times)]
    # The candidate last: where both lie over each other, it is the one that is seen.
    for side in ("baseline", "candidate"):
        places = _places(points, side, times, numbers)
        # A path without a place is no path: browsers report an error.
        if places:
            path = "M" + "L".join(places)
            parts.append(f'<path class="line {side}" d="{path}"/>')
    title = f"{curve.title}: candidate and baseline over time"
    # For whoever has the page read out.
    name = element("title", shown(title))
    return element(
        "svg",
        name + "".join(parts),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=title,
    )


def _thinned(points: Sequence[CurvePoint]) -> Sequence[CurvePoint]:
    # Rounded up, so that exactly as many as may be drawn all are.
    every = max(1, -(-len(points) // _MOST_POINTS))
    thinned = list(points[::every])
    # The last one decided.
    if points and thinned[-1] != points[-1]:
        thinned.append(points[-1])
    return thinned


def _last(points: Sequence[CurvePoint]) -> float:
    seconds = [point.seconds for point in points]
    # A scale needs a width, also for a single look.
    return max([1.0, *seconds])


def _number_scale(points: Sequence[CurvePoint]) -> Scale:
    numbers = [0.0]
    for point in points:
        both = (point.candidate, point.baseline)
        numbers += [each for each in both if each is not None]
    high = max(numbers)
    # From zero, so that a small difference looks small.
    top = high * 1.1 if high > 0 else 1.0
    return Scale(0.0, top, _HEIGHT - _BOTTOM, _TOP)


def _places(
    points: Sequence[CurvePoint], side: str, times: Scale, numbers: Scale
) -> list[str]:
    places = []
    for point in points:
        number = getattr(point, side)
        # Left out, and not drawn as zero: nothing was measured.
        if number is not None:
            x = times.at(point.seconds)
            places.append(f"{x} {numbers.at(number)}")
    return places


def _axes(curve: Curve, times: Scale, numbers: Scale) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    right = _WIDTH - _RIGHT
    yield f'<text x="{_LEFT}" y="12">{shown(curve.title)}</text>'
    yield f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'
    for number in (0.0, numbers.high):
        # Half of a digit's height lower, beside the axis.
        y = numbers.at(number) + 4
        text = f"{number:.3g}{curve.unit}"
        yield (
            f'<text class="soft" x="{_LEFT - 5}" y="{y}" text-anchor="end">'
            f"{shown(text)}</text>"
        )
    end = f"{times.high:.0f} s"
    yield (
        f'<text class="soft" x="{right}" y="{_HEIGHT - 8}" text-anchor="end">{end}</text>'
    )


def _steps(steps: Sequence[Step], times: Scale) -> Iterator[str]:
    bottom = _HEIGHT - _BOTTOM
    for step in steps:
        x = times.at(step.seconds)
        line = f"M{x} {_TOP}V{bottom}"
        yield f'<path class="margin" d="{line}"/>'
        name = shown(step.name)
        yield f'<text class="soft" x="{x + 3}" y="{_HEIGHT - 8}">{name}</text>'
