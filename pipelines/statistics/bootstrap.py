"""Paired cluster bootstrap: groups are drawn with replacement, the same draw for both systems.

Rows of one group resemble each other, so the group is what counts. Intervals are percentile
intervals at levels that are widened for few groups: Hesterberg 2015, "What Teachers Should Know
About the Bootstrap", section 4.3 ("expanded percentile"). A bound that a gate decides by is the
wider of that and of the t bound of `jackknife.py`.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from core.errors import IncompleteEvidence
from core.value import Value
from pipelines.metrics import FloatArray, Metric
from pipelines.statistics.jackknife import reach_of_t, standard_error
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Resampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELLS = 2_000_000
"""Draws in memory at a time: bounds it to some 50 MB, whatever the number of groups."""
DRAWS_BEYOND = 100
"""Resamples beyond a percentile under which it is too uncertain to decide anything."""


class Difference(Value):
    """How much better one system is than another on one metric.

    Positive is better, also where a lower score is better.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    clusters: int


def sums_by_group(groups: Sequence[str], statistics: FloatArray) -> FloatArray:
    """Sum the rows' statistics within each group; shape (groups, statistics), groups sorted.

    `IncompleteEvidence` where a number is NaN or infinite.
    """
    _refuse_non_finite("a row's statistics", statistics)
    names, places = np.unique(np.asarray(groups), return_inverse=True)
    shape = (len(names), statistics.shape[1])
    sums = np.zeros(shape)
    # Unlike `sums[places] += …`, this adds every row of a group that occurs more than once.
    np.add.at(sums, places, statistics)
    return sums


def interval(
    metric: Metric, sums: FloatArray, resampling: Resampling, level: float = 0.95
) -> Interval:
    """The score of the corpus with its two-sided interval, from sums by group.

    `IncompleteEvidence` for fewer than two groups, or a score that is NaN or infinite.
    """
    tail = (1 - level) / 2  # on each side
    resampled = _resample(sums, resampling)
    scores = _score(metric, resampled)
    low, high = _percentiles(scores, tail, clusters=len(sums))
    total = sums.sum(axis=0)
    estimate = _score(metric, total)
    return Interval(
        estimate=float(estimate),
        low=low,
        high=high,
    )


def paired_difference(
    metric: Metric,
    own: FloatArray,
    other: FloatArray,
    alpha: float,
    resampling: Resampling,
) -> Difference:
    """How much better `own` is than `other`, with one-sided bounds at the level `alpha`.

    Each bound is the wider of two: the percentile of the resamples, which skewed differences need,
    and the t bound with a jackknife standard error, which clusters of unequal size need. With fewer
    resamples than `DRAWS_BEYOND` / alpha the t bound counts alone.

    Both are sums over the same groups, shape (groups, statistics); `IncompleteEvidence` where they
    are not.
    """
    if own.shape != other.shape:
        raise IncompleteEvidence(
            f"{metric.name}: {len(own)} groups against {len(other)}. "
            "Compare systems on the same prompts."
        )
    # Side by side, so that each resample draws the same groups of both systems.
    both = np.hstack([own, other])
    _refuse_unfit(both)
    clusters = len(both)
    total = both.sum(axis=0)
    estimate = float(_differences(metric, total))
    without_one = _differences(metric, total - both)
    error = standard_error(without_one)
    reach = error * reach_of_t(alpha, clusters)
    lows = [estimate - reach]
    highs = [estimate + reach]
    if resampling.resamples * alpha >= DRAWS_BEYOND:
        drawn = _differences(metric, _resample(both, resampling))
        low, high = _percentiles(drawn, alpha, clusters)
        lows.append(low)
        highs.append(high)
    # Percentiles of a skewed metric can leave the estimate out, and so can t at a level of over a
    # half: the bounds are widened to hold it, never narrowed.
    return Difference(
        difference=estimate,
        low=min(*lows, estimate),
        high=max(*highs, estimate),
        standard_error=error,
        clusters=clusters,
    )


def without_each(metric: Metric, own: FloatArray, other: FloatArray) -> FloatArray:
    """How much better `own` is than `other` without each cluster in turn, shape (groups,)."""
    both = np.hstack([own, other])
    _refuse_unfit(both)
    total = both.sum(axis=0)
    return _differences(metric, total - both)


def expanded_tail(tail: float, clusters: int) -> float:
    """The percentile that makes an interval as wide as Student's t would for so few clusters."""
    from scipy.special import ndtr, stdtrit

    # The root makes up for the bootstrap's variance, which divides by n instead of n - 1.
    quantile = stdtrit(clusters - 1, tail)
    correction = math.sqrt(clusters / (clusters - 1))
    return float(ndtr(correction * quantile))


def _differences(metric: Metric, both: FloatArray) -> FloatArray:
    """How much better the left half of the statistics scores than the right; shape (...)."""
    own, other = np.split(both, 2, axis=-1)
    own_scores = _score(metric, own)
    other_scores = _score(metric, other)
    # A positive difference is always better.
    if metric.higher_is_better:
        return np.asarray(own_scores - other_scores)
    return np.asarray(other_scores - own_scores)


def _resample(sums: FloatArray, resampling: Resampling) -> FloatArray:
    """Sums of each resampled corpus, shape (resamples, statistics)."""
    _refuse_unfit(sums)
    groups = len(sums)
    random = np.random.default_rng(resampling.seed)
    batch = max(1, CELLS // groups)
    # Batches bound the memory; the draws are the same whatever their size.
    starts = range(0, resampling.resamples, batch)
    counts = (min(batch, resampling.resamples - start) for start in starts)
    resampled = [_count_draws(random, count, groups) @ sums for count in counts]
    return np.concatenate(resampled)


def _count_draws(
    random: np.random.Generator, resamples: int, groups: int
) -> FloatArray:
    """How often each resample draws each group, shape (resamples, groups)."""
    shape = (resamples, groups)
    draws: NDArray[np.int64] = random.integers(groups, size=shape)
    # Numbered over all resamples, so that one count covers every row.
    offsets = np.arange(resamples) * groups
    draws += offsets[:, None]
    numbers = draws.ravel()
    counts = np.bincount(numbers, minlength=resamples * groups)
    return counts.reshape(shape).astype(np.float64)


def _score(metric: Metric, sums: FloatArray) -> FloatArray:
    scores = metric.corpus(sums)
    _refuse_non_finite(metric.name, scores)
    return scores


def _percentiles(values: FloatArray, tail: float, clusters: int) -> tuple[float, float]:
    low_tail = expanded_tail(tail, clusters)
    high_tail = 1 - low_tail
    probabilities = [low_tail, high_tail]
    low, high = np.quantile(values, probabilities)
    return float(low), float(high)


def _refuse_unfit(sums: FloatArray) -> None:
    """`IncompleteEvidence` where sums by group have no spread to speak of."""
    _refuse_non_finite("sums by group", sums)
    groups = len(sums)
    if groups < 2:
        raise IncompleteEvidence(
            f"The held-out split has {groups} group: a spread needs at least 2. "
            "Bring rows of more groups."
        )


def _refuse_non_finite(name: str, numbers: FloatArray) -> None:
    is_finite = np.isfinite(numbers)
    if not is_finite.all():
        wrong = ~is_finite
        count = int(wrong.sum())
        raise IncompleteEvidence(
            f"{name}: {count} of {numbers.size} numbers are NaN or infinite. Score again."
        )
