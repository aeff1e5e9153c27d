"""Whether an adapter knows the held-out rows as well as those it was to be trained on.

A gain is how far a reference's loss is below the base's, so that texts which are easy for any
model count for nothing (the reference model of Carlini et al. 2022, arXiv 2112.03570). Two sets of
rows are compared and not single rows, whose membership nobody can tell (dataset inference: Maini
et al. 2024, arXiv 2406.06443). The split draws groups by hash. Of an adapter that saw all of them
or none, any other draw would be as good: so the test is one of randomisation (Fisher 1935).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.value import Value
from pipelines.values.elsewhere import Leaning, MembershipProbe

DRAWS = 9_999
LEVEL = 0.01
SMALLEST_SHARE = 0.1
"""How much of the larger gain a difference must be: a smaller one can be shown and means little."""
_SEED = 0
_ROUNDING = 1e-12


class Gain(Value):
    """By how much the adapter's loss on a prompt's references is below the base's."""

    group: str
    nats: float
    utf8_bytes: int = Field(ge=1)


def probe_membership(
    known: Sequence[Gain], held_out: Sequence[Gain], *, is_random_split: bool
) -> MembershipProbe:
    """Compare the mean gain of groups of train and dev with that of held-out groups.

    Both must hold at least one row. The test is two-sided at 1 %.
    """
    known_means, held_out_means = _group_means(known), _group_means(held_out)
    p_value = _permuted_p(known_means, held_out_means)
    return MembershipProbe(
        known_gain=float(known_means.mean()),
        held_out_gain=float(held_out_means.mean()),
        known_groups=len(known_means),
        held_out_groups=len(held_out_means),
        p_value=p_value,
        leans_to=_leaning(known_means.mean(), held_out_means.mean(), p_value),
        is_random_split=is_random_split,
    )


def _group_means(gains: Iterable[Gain]) -> NDArray[np.float64]:
    """Nats a byte of each group: rows of one group resemble each other."""
    nats: dict[str, float] = {}
    lengths: dict[str, int] = {}
    for gain in gains:
        group = gain.group
        nats.setdefault(group, 0.0)
        lengths.setdefault(group, 0)
        nats[group] += gain.nats
        lengths[group] += gain.utf8_bytes
    # A mean for each group: one with many rows must not stand for all of them.
    totals = np.array(list(nats.values()))
    sizes = np.array(list(lengths.values()))
    return np.asarray(totals / sizes)


def _permuted_p(known: NDArray[np.float64], held_out: NDArray[np.float64]) -> float:
    """How often a random draw of as many groups differs as much, with the present one counted."""
    # A fixed seed: the same adapter gets the same answer each time it is asked.
    dice = np.random.default_rng(_SEED)
    # Without difference between the two sets, any groups of the pool could have been drawn.
    pool = np.concatenate([known, held_out])
    size = len(known)
    observed = abs(known.mean() - held_out.mean())
    as_far = 0
    # Equal draws are as far, whatever the order of the sums rounds to.
    far = observed - _ROUNDING
    for _ in range(DRAWS):
        drawn = dice.permutation(pool)
        one, other = drawn[:size], drawn[size:]
        distance = abs(one.mean() - other.mean())
        if distance >= far:
            as_far += 1
    # With the present split counted, p is never 0, which no number of draws could show.
    return (1 + as_far) / (1 + DRAWS)


def _leaning(known: float, held_out: float, p_value: float) -> Leaning:
    # Against the larger gain: with many rows even a tiny difference is significant.
    larger = max(abs(known), abs(held_out))
    difference = known - held_out
    is_large = abs(difference) >= SMALLEST_SHARE * larger
    # Asked as a pass: a NaN shows nothing.
    is_shown = p_value <= LEVEL
    if not (is_shown and is_large):
        return "neither"
    if difference > 0:
        return "train and dev"
    return "held-out"
