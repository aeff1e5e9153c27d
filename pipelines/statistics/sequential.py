"""Two rates that are watched while they are counted: an answer that holds whenever one looks.

The null hypothesis is that the candidate's rate lies over the baseline's by a limit at most, or by
the limit at least. Its e-value is the likelihood of the counts under a mixture over all pairs of
rates, divided by the largest likelihood that any pair in the null reaches. At each pair of the null
this is at most a nonnegative martingale that begins at 1. So by Ville's inequality it ever reaches
1 / alpha with a probability of alpha at most, however often one looks and whenever one stops.

Mixture: Robbins 1970, "Statistical methods related to the law of the iterated logarithm", Ann.
Math. Statist. 41. Division by the null's largest likelihood: Wasserman, Ramdas & Balakrishnan 2020,
"Universal inference", PNAS 117.
"""

import math
from dataclasses import dataclass
from typing import Literal

Answer = Literal["fine", "open", "worse"]
# Of Jeffreys' prior over a rate, Beta(1/2, 1/2).
_PRIOR = 0.5
# Halvings of an interval: beyond the digits of a float.
_HALVINGS = 60


@dataclass(frozen=True)
class Rate:
    """How many of `total` observations were hits; `ValueError` where that cannot be."""

    hits: int
    total: int

    def __post_init__(self) -> None:
        """Refuse counts that no observations give."""
        if not 0 <= self.hits <= self.total:
            raise ValueError(f"{self.hits} of {self.total} is no rate")

    @property
    def share(self) -> float:
        """Hits of all; 0 where nothing was observed."""
        if self.total == 0:
            return 0.0
        return self.hits / self.total

    @property
    def misses(self) -> int:
        """Observations that were no hits."""
        return self.total - self.hits


@dataclass(frozen=True)
class Levels:
    """The error rates of one comparison.

    `worse`: calling a candidate worse by more than the limit that is not. `fine`: the opposite.
    """

    worse: float
    fine: float


def compare(candidate: Rate, baseline: Rate, limit: float, levels: Levels) -> Answer:
    """Whether the candidate's rate of something bad is shown to be over baseline plus `limit`.

    "worse": it is over it; "fine": it is under it; "open": neither is shown yet. `limit` is a
    difference of two shares, over 0 and under 1.
    """
    difference = candidate.share - baseline.share
    evidence = log_evidence(
        candidate,
        baseline,
        limit,
    )
    if difference > limit and evidence >= -math.log(levels.worse):
        return "worse"
    if difference < limit and evidence >= -math.log(levels.fine):
        return "fine"
    return "open"


def log_evidence(candidate: Rate, baseline: Rate, limit: float) -> float:
    """Logarithm of the e-value against the hypothesis that the observed difference speaks against.

    That is "at most `limit`" where the observed difference is over it, "at least" otherwise. The
    likelihood is concave, so its largest value in the null lies where the difference is `limit`.
    """
    mixture = _log_mixture(candidate) + _log_mixture(baseline)
    return mixture - _log_likelihood_at_limit(
        candidate,
        baseline,
        limit,
    )


def _log_mixture(rate: Rate) -> float:
    """Of the sequence of hits and misses, under the prior."""
    seen = _log_beta(
        rate.hits + _PRIOR,
        rate.misses + _PRIOR,
    )
    return seen - _log_beta(_PRIOR, _PRIOR)


def _log_beta(one: float, other: float) -> float:
    return math.lgamma(one) + math.lgamma(other) - math.lgamma(one + other)


def _log_likelihood_at_limit(candidate: Rate, baseline: Rate, limit: float) -> float:
    """The largest log-likelihood of all pairs of rates whose difference is `limit`."""
    low, high = 0.0, 1.0 - limit
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = _slope(candidate, middle + limit) + _slope(baseline, middle)
        # Concave: its slope falls, and is 0 at the maximum.
        if slope > 0:
            low = middle
        else:
            high = middle
    at_maximum = (low + high) / 2
    of_candidate = _log_likelihood(
        candidate,
        at_maximum + limit,
    )
    return of_candidate + _log_likelihood(baseline, at_maximum)


def _slope(rate: Rate, share: float) -> float:
    rising = rate.hits / share if rate.hits else 0.0
    falling = rate.misses / (1 - share) if rate.misses else 0.0
    return rising - falling


def _log_likelihood(rate: Rate, share: float) -> float:
    likelihood = 0.0
    if rate.hits:
        likelihood += rate.hits * math.log(share)
    if rate.misses:
        likelihood += rate.misses * math.log1p(-share)
    return likelihood
