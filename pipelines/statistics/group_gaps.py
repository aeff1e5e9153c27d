"""How far apart the means of groups are: signed gaps, with intervals for all pairs at once.

The largest mean minus the least is never negative, so its resampled interval never holds 0, and it
grows with the number of groups. A signed gap of two groups has no such fault. Its interval is
Student's t at the level 0.05 over the number of pairs (Bonferroni), so that with 95 % all of them
hold together, and the widest of them too.

Standard errors are of clusters. Where persons' names were put into prompts, both are clusters: the
two-way variance of Cameron, Gelbach and Miller 2011, "Robust Inference with Multiway Clustering",
and never less than that of either.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pipelines.values.dataset import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

HIGHEST_LOGARITHM = 50.0
"""Of the factor of a ratio's bounds: beyond it nothing is said by any of them."""
TAIL = 0.025
"""On each side of an interval, for all pairs together."""


@dataclass(frozen=True)
class Grouping:
    """Which row is of which group, cluster and, where rows have one, name; each of shape (rows,).

    Numbers from 0 on, without a gap.
    """

    groups: "Integers"
    clusters: "Integers"
    names: "Integers | None"

    @cached_property
    def sizes(self) -> "Integers":
        """Rows of each group."""
        return np.bincount(self.groups)

    @cached_property
    def cluster_counts(self) -> "Integers":
        """Clusters that each group has rows in."""
        return _distinct(self.clusters, self.groups)

    @cached_property
    def degrees(self) -> "Integers":
        """Degrees of freedom of each group: its fewest clusters or names, less one."""
        counts = self.cluster_counts
        if self.names is not None:
            name_counts = _distinct(self.names, self.groups)
            counts = np.minimum(counts, name_counts)
        return counts - 1


def number(labels: Sequence[object]) -> "Integers":
    """Labels as numbers from 0 on, in sorted order."""
    array = np.asarray(labels)
    # By row: an id may be made of several labels.
    _, places = np.unique(array, return_inverse=True, axis=0)
    return places.ravel()


def widest_gap(values: "Floats", grouping: Grouping, most: float) -> Interval:
    """The largest gap between the means of two groups, with bounds for the widest of all pairs.

    `most` is the largest gap that there can be: 1 between shares. It bounds what cannot be
    estimated, such as the spread of a group that is a single cluster.
    """
    means = _means(values, grouping)
    column = means[:, None]
    gaps = np.abs(column - means)
    variances = _pair_variances(values, grouping)
    # Of none among n the variance is 0, and yet the share need not be.
    if most == 1:
        least = _least_variances(means, grouping)
        variances = np.maximum(variances, least)
    quantiles = _quantiles(grouping)
    # No degree of freedom: anything is possible.
    is_known = quantiles > 0
    reaches = np.sqrt(variances) * quantiles
    reaches = np.where(is_known, reaches, 2 * most)
    # Each pair once, and no group with itself.
    pairs = np.triu_indices(len(means), k=1)
    lows = (gaps - reaches)[pairs]
    highs = (gaps + reaches)[pairs]
    widest = means.max() - means.min()
    return Interval(
        estimate=float(widest),
        low=max(float(lows.max()), -most),
        high=min(float(highs.max()), most),
    )


def least_ratio(shares: "Floats", grouping: Grouping) -> Interval | None:
    """The lowest share over the highest, with bounds from their logarithms.

    None where no row is marked. Two of the pair's rows are added, one of them marked, so that none
    of n has a logarithm (Agresti and Caffo 2000).
    """
    means = _means(shares, grouping)
    lowest = int(means.argmin())
    highest = int(means.argmax())
    if not means[highest] > 0:
        return None
    ratio = float(means[lowest] / means[highest])
    counts = grouping.cluster_counts
    marked = means * counts
    smoothed = (marked + 1) / (counts + 2)
    # The derivative of a logarithm is 1 over its argument: the delta method.
    contrast = np.zeros(len(means))
    contrast[lowest] += 1 / smoothed[lowest]
    contrast[highest] -= 1 / smoothed[highest]
    quantile = float(_quantiles(grouping)[lowest, highest])
    # A group that is a single cluster bounds nothing: any ratio is possible.
    if not quantile > 0:
        return Interval(estimate=ratio, low=0, high=1)
    reach = quantile * _contrast_error(contrast, shares, grouping)
    middle = smoothed[lowest] / smoothed[highest]
    factor = math.exp(min(reach, HIGHEST_LOGARITHM))
    return Interval(
        estimate=ratio,
        low=min(float(middle / factor), ratio),
        high=max(float(middle * factor), ratio),
    )


def _means(values: "Floats", grouping: Grouping) -> "Floats":
    totals = np.bincount(grouping.groups, weights=values)
    means: Floats = totals / grouping.sizes
    return means


def _contrast_error(contrast: "Floats", values: "Floats", grouping: Grouping) -> float:
    # The largest of the ways to cluster: the two-way variance alone can be negative.
    largest = 0.0
    for covariance in _covariances(values, grouping):
        variance = contrast @ covariance @ contrast
        largest = max(largest, float(variance))
    return math.sqrt(largest)


def _pair_variances(values: "Floats", grouping: Grouping) -> "Floats":
    """Variance of the gap of each pair, shape (groups, groups)."""
    groups = len(grouping.sizes)
    largest: Floats = np.zeros((groups, groups))
    # The two-way variance can be less than that of one way, and even negative.
    for covariance in _covariances(values, grouping):
        own = covariance.diagonal()
        variances = own[:, None] + own - 2 * covariance
        largest = np.maximum(largest, variances)
    return largest


def _covariances(values: "Floats", grouping: Grouping) -> list["Floats"]:
    """Of the groups' means, by each clustering and, where there are two, by both together."""
    by_cluster = _covariance(values, grouping.clusters, grouping)
    names = grouping.names
    if names is None:
        return [by_cluster]
    by_name = _covariance(values, names, grouping)
    # Names and clusters as one number: what has both in common is counted in each.
    count = int(names.max()) + 1
    shared = number((grouping.clusters * count + names).tolist())
    by_both = _covariance(values, shared, grouping)
    two_way = by_cluster + by_name - by_both
    return [by_cluster, by_name, two_way]


def _covariance(values: "Floats", ids: "Integers", grouping: Grouping) -> "Floats":
    """Of the groups' means, from what each cluster adds to them; shape (groups, groups)."""
    groups = grouping.groups
    residuals = _without_clusters(values, grouping)
    parts = residuals / grouping.sizes[groups]
    added = _tabulate(ids, groups, parts)
    counts = _distinct(ids, groups)
    # As the variance of few observations divides by n - 1; of one it is not known.
    others = np.maximum(counts - 1, 1)
    added *= np.sqrt(counts / others)
    covariance: Floats = added.T @ added
    return covariance


def _without_clusters(values: "Floats", grouping: Grouping) -> "Floats":
    """What is left of each row without its group's mean and, where that cancels, its cluster's.

    What makes a prompt hard cancels in a gap where every cluster asks as often for each group. A
    name is asked of some prompts only, and would else answer for how hard those are.
    """
    clusters = grouping.clusters
    ones = np.ones(len(values))
    counts = _tabulate(clusters, grouping.groups, ones)
    kept = values
    is_balanced = (counts == counts[0]).all()
    if is_balanced:
        sums = np.bincount(clusters, weights=values)
        cluster_means = sums / counts.sum(axis=1)
        kept = values - cluster_means[clusters]
    means = _means(kept, grouping)
    rest: Floats = kept - means[grouping.groups]
    return rest


def _least_variances(shares: "Floats", grouping: Grouping) -> "Floats":
    """What two clusters more would add to the variance, in which one group's share is 1, then 0.

    Without any mark this is the variance of Agresti and Caffo's interval, which adds a marked and
    an unmarked row to each group.
    """
    weights = 1 / (grouping.cluster_counts + 2)
    up = (1 - shares) * weights
    down = shares * weights
    one = up[:, None] + down
    variances: Floats = one**2 + one.T**2
    return variances


def _quantiles(grouping: Grouping) -> "Floats":
    """Student's t for each pair, at the level of all of them; 0 without a degree of freedom."""
    from scipy.special import stdtrit

    own = grouping.degrees
    # The poorer group of a pair decides how well the gap is known.
    degrees = np.minimum(own[:, None], own)
    count = len(own)
    pairs = count * (count - 1) / 2
    tail = TAIL / max(1.0, pairs)
    # The formula has no answer for 0 degrees; those places are overwritten below.
    safe = np.maximum(degrees, 1)
    quantiles: Floats = stdtrit(safe, 1 - tail)
    quantiles[degrees < 1] = 0
    return quantiles


def _tabulate(ids: "Integers", groups: "Integers", parts: "Floats") -> "Floats":
    """The sum of the parts by id and group, shape (ids, groups)."""
    rows = int(ids.max()) + 1
    columns = int(groups.max()) + 1
    table = np.zeros((rows, columns))
    # Unlike `table[...] += parts`, this adds what falls on the same place again.
    np.add.at(table, (ids, groups), parts)
    return table


def _distinct(ids: "Integers", groups: "Integers") -> "Integers":
    """Distinct ids among the rows of each group."""
    ones = np.ones(len(ids))
    table = _tabulate(ids, groups, ones)
    is_there = table > 0
    counts: Integers = np.count_nonzero(is_there, axis=0)
    return counts
