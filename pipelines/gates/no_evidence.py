"""Where a metric cannot tell two systems apart, so that its bounds of 0 to 0 show nothing.

A comparison without any spread is evidence in three cases: every cluster shows the same gain or
loss; the metric does vary, and both systems vary alike; both are as good as can be, so that
nothing was lost. It is none where the metric gives every prompt of both one and the same number:
another adapter would have had it, too.
"""

from pipelines.metrics import Metric
from pipelines.values.dataset import Interval
from pipelines.values.verdict import Comparison

ROUNDING = 1e-12
"""Of a metric's scale: spread that sums of equal numbers may have."""


def has_spread(comparison: Comparison, metric: Metric) -> bool:
    """Whether some cluster differs more than another."""
    scale = metric.scale
    least = ROUNDING * scale
    return comparison.standard_error > least


def is_flat(own: Interval | None, other: Interval | None) -> bool:
    """Whether both systems have the same score, and each has it on every draw of prompts."""
    # A score that is missing varies in a way that nobody knows.
    if own is None:
        return False
    is_same = own == other
    return is_same and own.low == own.high


def is_at_best(metric: Metric, interval: Interval | None) -> bool:
    """Whether a score is at the end of the scale where nothing is left to win."""
    if metric.worst is None or interval is None:
        return False
    best = metric.worst - metric.scale
    if metric.higher_is_better:
        best = metric.worst + metric.scale
    return interval.estimate == best


def describe_flat(comparison: Comparison, score: float) -> str:
    """What is said of such a comparison, as the beginning of a sentence."""
    return (
        f"{comparison.metric} is {score:g} for the adapter and for {comparison.against} "
        "alike, without any spread, which is no evidence"
    )
