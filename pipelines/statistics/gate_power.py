"""How often a whole gate would pass, all rules together, by simulation from evidence.

Rules on the same prompts hang together, so that the power of one says little of all. Each cluster's
influence on each comparison is known (`jackknife.py`). Weights drawn from a normal distribution
make of them the noise of another held-out set of the same kind (the multiplier bootstrap), and a
truth that is asked about is added.

What the evidence says of the spread is itself uncertain: a pilot of 20 clusters misjudges the
clusters that are needed by a factor of two. So clusters are resampled first, many times, and a
range is given, never one number.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines.statistics.jackknife import reach_of_t

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PILOTS = 60
"""Resampled held-out sets, each with a spread of its own."""
DRAWS = 500
"""Simulated evaluations for each of them."""
RANGE = (0.1, 0.9)
"""The quantiles that a range goes from and to."""
MOST_CLUSTERS = 100_000
"""Beyond it nobody is told a number of clusters."""
STEP = 1.1
"""Numbers of clusters are tried on a scale whose steps are this factor."""


@dataclass(frozen=True)
class Demand:
    """What one comparison must show to pass: a bound above a limit, and a measured gain."""

    truth: float
    """The true difference that is asked about."""
    above: float
    """What the lower bound must exceed."""
    measured: float
    """What the estimate must be at least; minus infinity where only the bound counts."""


class GateSimulation:
    """The noise of a set of comparisons, drawn once, for any truth and any number of clusters."""

    def __init__(self, influences: "Floats", alpha: float, seed: int) -> None:
        """`influences`: what each cluster adds to each comparison, shape (clusters, comparisons).

        At least two clusters.
        """
        # Seeded, so that the same evidence always gets the same advice.
        random = np.random.default_rng(seed)
        self.clusters = len(influences)
        self.alpha = alpha
        self.noises: list[Floats] = []
        self.spreads: list[Floats] = []
        # The same weights for each: what differs between two of them is their spread alone.
        weights = random.standard_normal((DRAWS, self.clusters))
        degrees = self.clusters - 1
        for _ in range(PILOTS):
            # With replacement: how much the spread itself would differ in another pilot.
            drawn = random.integers(self.clusters, size=self.clusters)
            parts = influences[drawn]
            pilot = parts - parts.mean(axis=0)
            # In standard deviations of one cluster, so that any number of them can be asked about.
            noise = weights @ pilot / np.sqrt(degrees)
            spread = pilot.std(axis=0, ddof=1)
            self.noises.append(noise)
            self.spreads.append(spread)

    def power(self, demands: list[Demand], clusters: int) -> tuple[float, float]:
        """How often all demands are met with that many clusters, from and to."""
        pilots = range(len(self.noises))
        shares = []
        for pilot in pilots:
            share = self._share(demands, clusters, pilot)
            shares.append(share)
        return self._range(shares)

    def clusters_for(
        self, demands: list[Demand], power: float
    ) -> tuple[int, int] | None:
        """The clusters with which all demands are met that often, from and to.

        None where `MOST_CLUSTERS` do not suffice, as for a gain of exactly what must be measured.
        """
        needed = [
            self._needed(demands, power, pilot) for pilot in range(len(self.noises))
        ]
        low, high = self._range(needed)
        if not high < MOST_CLUSTERS:
            return None
        return round(low), round(high)

    def _share(self, demands: list[Demand], clusters: int, pilot: int) -> float:
        root = math.sqrt(clusters)
        noises = self.noises[pilot] / root
        errors = self.spreads[pilot] / root
        reaches = errors * reach_of_t(self.alpha, clusters)
        is_passed = np.full(DRAWS, True)
        for place, demand in enumerate(demands):
            estimates = noises[:, place] + demand.truth
            lows = estimates - reaches[place]
            is_proven = lows > demand.above
            is_large = estimates >= demand.measured
            # All in the same draw: rules on the same prompts pass and fail together.
            is_passed &= is_proven
            is_passed &= is_large
        passed = np.count_nonzero(is_passed)
        return passed / DRAWS

    def _needed(self, demands: list[Demand], power: float, pilot: int) -> float:
        low, high = 2, MOST_CLUSTERS
        if self._share(demands, high, pilot) < power:
            return MOST_CLUSTERS
        # The share grows with the clusters: halve on a logarithmic scale.
        while high / low > STEP:
            middle = round(np.sqrt(low * high))
            if self._share(demands, middle, pilot) < power:
                low = middle
            else:
                high = middle
        return high

    def _range(self, numbers: list[float]) -> tuple[float, float]:
        # Quantiles and no extremes, which would grow with the number of pilots.
        ends = np.quantile(numbers, RANGE)
        low, high = ends.tolist()
        return low, high


def provable_margin(
    standard_error: float, clusters: int, alpha: float, power: float
) -> float:
    """The margin that a candidate which loses nothing keeps to with this power, by one rule."""
    of_level = reach_of_t(alpha, clusters)
    # Both: the bound has to be right, and it has to be kept that often.
    of_power = reach_of_t(1 - power, clusters)
    return (of_level + of_power) * standard_error
