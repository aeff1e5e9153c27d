"""Bounds of a mean over clusters that do not shrink to nothing where all clusters agree.

Of 24 prompts that nobody refuses, the spread is 0, and a t bound would say that refusals are
impossible. So one cluster is added at the end of the scale, before the bound is computed: the idea
of Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions",
who add to each cell of the table of a pair. With n clusters at 0 the upper bound is about 3 / n.
"""

import math
from collections.abc import Sequence

import numpy as np

from core.errors import IncompleteEvidence
from pipelines.statistics.jackknife import reach_of_t
from pipelines.values.dataset import Interval

TAIL = 0.025
"""On each side: a gate that asks for one bound has a level of 2.5 %."""


def mean_by_cluster(clusters: Sequence[str], numbers: Sequence[float]) -> list[float]:
    """A mean for each cluster, in the order in which they first occur.

    One with many items does not stand for all of them.
    """
    by_cluster: dict[str, list[float]] = {}
    for cluster, number in zip(clusters, numbers, strict=True):
        by_cluster.setdefault(cluster, []).append(number)
    means = []
    for own in by_cluster.values():
        total = sum(own)
        means.append(total / len(own))
    return means


def bounded_mean(means: Sequence[float], tail: float = TAIL) -> Interval:
    """The mean of clusters' means between -1 and 1, with its bounds.

    `IncompleteEvidence` where there is none, or one is NaN or outside of -1 to 1.
    """
    if not means:
        raise IncompleteEvidence(
            "There are no clusters to take a mean of. Bring more items."
        )
    # Asked as a pass: a NaN is in no range.
    if not all(-1 <= mean <= 1 for mean in means):
        raise IncompleteEvidence(
            "A mean of a cluster is not between -1 and 1. Run the generate stage again."
        )
    estimate = math.fsum(means) / len(means)
    # Each bound is widened towards its own end, so that neither shrinks to nothing.
    low = _bound(means, -1.0, tail)
    high = _bound(means, 1.0, tail)
    return Interval(
        estimate=estimate,
        low=min(low, estimate),
        high=max(high, estimate),
    )


def difference_of_means(one: Interval, other: Interval) -> Interval:
    """`one` minus `other`, of samples that have nothing to do with each other.

    The bounds are put together as squares (MOVER: Zou and Donner 2008, "Construction of confidence
    limits about effect measures").
    """
    estimate = one.estimate - other.estimate
    down = math.hypot(one.estimate - one.low, other.high - other.estimate)
    up = math.hypot(one.high - one.estimate, other.estimate - other.low)
    return Interval(
        estimate=estimate,
        low=estimate - down,
        high=estimate + up,
    )


def _bound(means: Sequence[float], end: float, tail: float) -> float:
    """The bound towards an end of the scale."""
    widened = np.array([*means, end])
    count = len(widened)
    spread = float(widened.std(ddof=1))
    error = spread / math.sqrt(count)
    reach = error * reach_of_t(tail, count)
    mean = float(widened.mean())
    bound = mean + math.copysign(reach, end)
    # A share cannot differ by more than everything.
    at_most = min(1.0, bound)
    return max(-1.0, at_most)
