"""What people's ratings show: their agreement, and a mean with its bounds.

Both are formulas over sums, as metrics are, so that the cluster bootstrap draws their intervals.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from pipelines.metrics import FloatArray, Metric
from pipelines.statistics.bootstrap import interval
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Resampling

WIDTH = 4.0
"""The scale from 1 to 5 is as wide as that."""
_VALUES = 5
FEWEST_ITEMS = 2
"""Items without which no spread can be drawn."""


@dataclass(frozen=True)
class _Formula:
    """All of a metric that `interval` asks for."""

    name: str
    corpus: Callable[[FloatArray], FloatArray]


def ordinal_alpha(
    items: Sequence[Sequence[int]], resampling: Resampling, level: float = 0.95
) -> Interval | None:
    """Krippendorff's alpha for ordinal values with its interval, items drawn with replacement.

    `items` holds each item's values, 1 to 5. One with a single value says nothing of agreement.
    None for fewer than two items with two values, and where all values are the same: then nobody
    could have disagreed. Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".
    """
    # Somebody who rated alone agrees with nobody, and disagrees with nobody.
    pairable = [values for values in items if len(values) > 1]
    if len(pairable) < FEWEST_ITEMS:
        return None
    sums = np.stack([_coincidences(values) for values in pairable])
    total = sums.sum(axis=0)
    # With one value alone the formula is 0 / 0.
    if np.count_nonzero(_margins(total)) < 2:
        return None
    formula = cast("Metric", _Formula("Krippendorff's alpha", _alpha))
    drawn = interval(formula, sums, resampling, level)
    return _containing_estimate(drawn)


def _coincidences(values: Sequence[int]) -> FloatArray:
    """How often each value meets each other one in an item, as a flat matrix of 25 numbers."""
    # Values count from 1, and columns from 0.
    places = np.asarray(values) - 1
    counts = np.bincount(places, minlength=_VALUES)
    with_itself = np.diag(counts)
    pairs = np.outer(counts, counts) - with_itself
    # Each value weighs the same, however many people rated its item.
    others = len(values) - 1
    flat = pairs.ravel()
    return np.asarray(flat / others)


def _alpha(sums: FloatArray) -> FloatArray:
    """1 - observed / expected disagreement, from sums of shape (..., 25).

    Where all values are the same, nothing shows agreement: 0, and never a pass.
    """
    margins = _margins(sums)
    rows, columns = margins[..., :, None], margins[..., None, :]
    distance = _distance(margins)
    met = _squares(sums) * distance
    observed = met.sum(axis=(-2, -1))
    could_meet = rows * columns * distance
    expected = could_meet.sum(axis=(-2, -1))
    total = margins.sum(axis=-1)
    no_agreement = np.ones_like(expected)
    ratio = np.divide(
        observed * (total - 1),
        expected,
        out=no_agreement,
        where=expected > 0,
    )
    return np.asarray(1 - ratio)


def _distance(margins: FloatArray) -> FloatArray:
    """Squared distances between ordinal values: how many values lie between two of them."""
    below = np.cumsum(margins, axis=-1)
    # A value's place is the middle of its ranks.
    ranks = below - margins / 2
    own = ranks[..., :, None]
    other = ranks[..., None, :]
    apart = own - other
    # Squared, as Krippendorff has it: a far miss is worse than two near ones.
    squared = apart**2
    return np.asarray(squared)


def _squares(sums: FloatArray) -> FloatArray:
    lead = sums.shape[:-1]
    shape = (*lead, _VALUES, _VALUES)
    return sums.reshape(shape)


def _margins(sums: FloatArray) -> FloatArray:
    """How often each value occurs, shape (..., 5)."""
    squares = _squares(sums)
    last = -1
    margins = squares.sum(axis=last)
    return np.asarray(margins)


def mean_of_clusters(
    clusters: Sequence[FloatArray],
    width: float,
    resampling: Resampling,
    level: float = 0.95,
) -> Interval | None:
    """The mean of all numbers, clusters drawn with replacement; None for fewer than two clusters.

    The wider of the bootstrap's interval and Student's t with a jackknife over clusters. `width` is
    how far a number that was not drawn may be away: where all numbers are equal, the interval holds
    as many such clusters as could have been missed by chance.
    """
    if len(clusters) < FEWEST_ITEMS:
        return None
    # Sums and counts, and no means: a cluster of many prompts weighs as many.
    sums = np.array([(numbers.sum(), numbers.size) for numbers in clusters])
    formula = cast("Metric", _Formula("mean of ratings", _mean))
    drawn = interval(formula, sums, resampling, level)
    tail = (1 - level) / 2
    reach = _reach(
        sums,
        width,
        tail,
    )
    return Interval(
        estimate=drawn.estimate,
        low=min(drawn.low, drawn.estimate - reach),
        high=max(drawn.high, drawn.estimate + reach),
    )


def _mean(sums: FloatArray) -> FloatArray:
    totals = sums[..., 0]
    counts = sums[..., 1]
    return np.asarray(totals / counts)


def _reach(sums: FloatArray, width: float, tail: float) -> float:
    """How far the bounds are from the estimate at least, on either side."""
    from scipy.special import stdtrit

    count = len(sums)
    others = sums.sum(axis=0) - sums
    left_out = _mean(others)
    freedom = count - 1
    deviation = float(left_out.std())
    spread = deviation * math.sqrt(freedom)
    # Rounding leaves some 1e-17 where all numbers are equal.
    if spread > 1e-12:
        quantile = stdtrit(freedom, 1 - tail)
        return float(spread * quantile)
    # As large a share of other clusters is missed by all of them with the probability `tail`.
    missed = 1 - tail ** (1 / count)
    return float(width * missed)


def _containing_estimate(drawn: Interval) -> Interval:
    # Percentiles of a skewed formula can leave the estimate out.
    return Interval(
        estimate=drawn.estimate,
        low=min(drawn.low, drawn.estimate),
        high=max(drawn.high, drawn.estimate),
    )
