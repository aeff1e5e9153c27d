"""The jackknife over clusters: what each of them adds, and the spread that this makes.

The standard error is that of Efron and Stein 1981, "The Jackknife Estimate of Variance":
sqrt((n - 1) / n * sum((estimate without cluster i - their mean)^2)). Of a mean of clusters of equal
size it is the usual one, s / sqrt(n). It needs n scores, where a bootstrap needs thousands.
"""

import math

import numpy as np

from pipelines.metrics import FloatArray


def standard_error(without_one: FloatArray) -> float:
    """The standard error of an estimate, from those that leave out one cluster each; shape (n,)."""
    parts = influences(without_one)
    clusters = len(without_one)
    # Each part has the estimate's own scale, so that their variance over n is the square.
    variance = float(parts.var(ddof=1)) / clusters
    return math.sqrt(variance)


def influences(without_one: FloatArray) -> FloatArray:
    """What each cluster adds to an estimate, in its own unit and with a mean of 0; shape (n, ...).

    These are the jackknife's pseudo-values, centred.
    """
    clusters = len(without_one)
    mean = without_one.mean(axis=0)
    # Turned around: where a good cluster is missing, the estimate is lower.
    missing = mean - without_one
    return np.asarray((clusters - 1) * missing)


def reach_of_t(alpha: float, clusters: int) -> float:
    """How many standard errors a one-sided bound is away: Student's t with n - 1 degrees."""
    from scipy.special import stdtrit

    # A cluster is one observation, however many rows it has.
    degrees = clusters - 1
    quantile = stdtrit(degrees, 1 - alpha)
    return float(quantile)
