"""What a held-out set can show, said before it is needed."""

import math
from statistics import NormalDist


def smallest_detectable_effect(clusters: int, alpha: float, power: float) -> float:
    """The smallest true difference, in standard deviations of a cluster's difference, that is shown with this power.

    (z of 1 - alpha + z of power) / sqrt(clusters): one-sided, paired, normal approximation.
    """
    return _reach(alpha, power) / math.sqrt(clusters)


def clusters_needed(
    standard_error: float, clusters: int, effect: float, alpha: float, power: float
) -> int:
    """Clusters in all that would show `effect` with this power, judged by the spread of a comparison over `clusters`."""
    return math.ceil(clusters * (_reach(alpha, power) * standard_error / effect) ** 2)


def _reach(alpha: float, power: float) -> float:
    return NormalDist().inv_cdf(1 - alpha) + NormalDist().inv_cdf(power)
