"""Paired cluster bootstrap: whole groups are drawn with replacement, the same draw for both systems.

Rows of one group resemble each other, so the group is what counts. Intervals are percentile intervals at levels that are
widened for few groups: Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 4.3 ("expanded percentile").
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.errors import IncompleteEvidence
from core.value import Value
from pipelines.metrics import FloatArray, Metric
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Resampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELLS = 2_000_000
"""Draws held at a time: bounds memory at some 50 MB, whatever the number of groups."""


class Difference(Value):
    """How much better one system is than another on one metric: positive is better, whichever way the metric points."""

    difference: float
    low: float
    high: float
    standard_error: float
    clusters: int


def sums_by_group(groups: Sequence[str], statistics: FloatArray) -> FloatArray:
    """Sum the rows' statistics within each group, groups in sorted order."""
    _refuse_non_finite("a row's statistics", statistics)
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), statistics.shape[1]))
    np.add.at(sums, places, statistics)
    return sums


def interval(
    metric: Metric, sums: FloatArray, resampling: Resampling, level: float = 0.95
) -> Interval:
    """The score of the corpus with its two-sided interval, from sums by group."""
    tail = (1 - level) / 2
    scores = _scores(metric, _resampled(sums, resampling))
    low, high = _percentiles(scores, tail, len(sums))
    return Interval(
        estimate=float(_scores(metric, sums.sum(axis=0))), low=low, high=high
    )


def paired_difference(
    metric: Metric,
    own: FloatArray,
    other: FloatArray,
    alpha: float,
    resampling: Resampling,
) -> Difference:
    """How much better `own` is than `other`, with one-sided bounds at `alpha`. Both are sums over the same groups."""
    if own.shape != other.shape:
        raise IncompleteEvidence(
            f"{metric.name}: {len(own)} groups against {len(other)}. Compare systems on the same prompts."
        )
    sign = 1 if metric.higher_is_better else -1
    both = _resampled(np.hstack([own, other]), resampling)
    width = own.shape[1]
    differences = sign * (
        _scores(metric, both[:, :width]) - _scores(metric, both[:, width:])
    )
    low, high = _percentiles(differences, alpha, len(own))
    estimate = float(
        sign * (_scores(metric, own.sum(axis=0)) - _scores(metric, other.sum(axis=0)))
    )
    # Percentiles of a skewed metric can leave the estimate out: the bounds are widened to hold it, never narrowed.
    return Difference(
        difference=estimate,
        low=min(low, estimate),
        high=max(high, estimate),
        standard_error=float(differences.std(ddof=1)),
        clusters=len(own),
    )


def expanded_tail(tail: float, clusters: int) -> float:
    """The percentile that makes a percentile interval as wide as Student's t would be for so few clusters."""
    from scipy.special import ndtr, stdtrit

    return float(
        ndtr(math.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, tail))
    )


def _resampled(sums: FloatArray, resampling: Resampling) -> FloatArray:
    """Sums of each resampled corpus, shape (resamples, statistics)."""
    _refuse_non_finite("sums by group", sums)
    groups = len(sums)
    if groups < 2:
        raise IncompleteEvidence(
            f"The held-out split has {groups} group: a spread needs at least 2. Bring rows of more groups."
        )
    random = np.random.default_rng(resampling.seed)
    at_once = max(1, CELLS // groups)
    counts = (
        min(at_once, resampling.resamples - done)
        for done in range(0, resampling.resamples, at_once)
    )
    return np.concatenate(
        [_times_drawn(random, count, groups) @ sums for count in counts]
    )


def _times_drawn(
    random: np.random.Generator, resamples: int, groups: int
) -> FloatArray:
    """How often each resample draws each group."""
    draws: NDArray[np.int64] = random.integers(groups, size=(resamples, groups))
    draws += np.arange(resamples)[:, None] * groups
    return (
        np.bincount(draws.ravel(), minlength=resamples * groups)
        .reshape(resamples, groups)
        .astype(np.float64)
    )


def _scores(metric: Metric, sums: FloatArray) -> FloatArray:
    scores = metric.corpus(sums)
    _refuse_non_finite(metric.name, scores)
    return scores


def _percentiles(values: FloatArray, tail: float, clusters: int) -> tuple[float, float]:
    expanded = expanded_tail(tail, clusters)
    low, high = np.quantile(values, [expanded, 1 - expanded])
    return float(low), float(high)


def _refuse_non_finite(what: str, numbers: FloatArray) -> None:
    if not np.isfinite(numbers).all():
        raise IncompleteEvidence(
            f"{what}: {int((~np.isfinite(numbers)).sum())} of {numbers.size} numbers are NaN or infinite. Score again."
        )
