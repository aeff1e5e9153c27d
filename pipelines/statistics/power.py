"""How small a difference a held-out set can show, computed before training."""

import math
from statistics import NormalDist


def smallest_detectable_effect(clusters: int, alpha: float, power: float) -> float:
    """The smallest true difference that a comparison over `clusters` shows with this power.

    In standard deviations of a cluster's difference:
    (z of 1 - alpha + z of power) / sqrt(clusters). One-sided, paired, normal approximation.
    """
    reach = _standard_errors_to_show(alpha, power)
    return reach / math.sqrt(clusters)


def clusters_needed(
    standard_error: float, clusters: int, effect: float, alpha: float, power: float
) -> int:
    """Clusters in all that would show `effect` with this power.

    The spread is that of a comparison over `clusters`, whose `standard_error` shrinks with the
    square root of their number.
    """
    reach = _standard_errors_to_show(alpha, power)
    ratio = reach * standard_error / effect
    needed = clusters * ratio**2
    return math.ceil(needed)


def _standard_errors_to_show(alpha: float, power: float) -> float:
    """The effect that is shown with this power, in standard errors of the difference."""
    normal = NormalDist()
    z_of_level = normal.inv_cdf(1 - alpha)
    z_of_power = normal.inv_cdf(power)
    return z_of_level + z_of_power
