"""chrF: how many character n-grams an answer shares with its reference, 0 to 100."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pipelines.metrics.metric import FloatArray, ScoredRow
from pipelines.metrics.sacre import sacre_signature, segment_statistics

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF

BETA = 2


class Chrf:
    """Corpus chrF2 as sacreBLEU computes it (Popović 2015); of several references the best one counts.

    Statistics: for each order 1 to 6 the n-grams of the answer, of the reference, and those they share.
    """

    name = "chrf"
    unit = "0 to 100"
    higher_is_better = True
    scale = 100.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """N-gram counts of the row, order by order: answer, reference, shared."""
        return segment_statistics(_sacre(), row)

    def corpus(self, sums: FloatArray) -> FloatArray:
        """F2 of the mean precision and the mean recall over the orders that both sides have."""
        answer, reference, shared = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
        has_order = (answer > 0) & (reference > 0)
        orders = np.maximum(has_order.sum(axis=-1), 1)
        precision = (
            np.where(has_order, shared / np.maximum(answer, 1), 0).sum(axis=-1) / orders
        )
        recall = (
            np.where(has_order, shared / np.maximum(reference, 1), 0).sum(axis=-1)
            / orders
        )
        weighted = BETA**2 * precision + recall
        return np.asarray(
            100
            * (1 + BETA**2)
            * precision
            * recall
            / np.where(weighted > 0, weighted, 1)
        )

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """SacreBLEU's signature."""
        return sacre_signature(_sacre(), rows)


@cache
def _sacre() -> "CHRF":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
