"""Numbers with their bounds, a line each."""

from typing import TYPE_CHECKING

from core.console import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.values.dataset import Interval


def say_intervals(intervals: "Mapping[str, Interval | None]") -> None:
    """Say each by its name, also one that is not known."""
    for name, interval in intervals.items():
        # A number that is missing is said, too: `judge` is undecided for it.
        if interval is None:
            say(f"  {name}: not known")
            continue
        bounds = f"[{interval.low:.2f}, {interval.high:.2f}]"
        say(f"  {name}: {interval.estimate:.2f} {bounds}")
