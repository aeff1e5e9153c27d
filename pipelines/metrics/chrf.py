"""chrF: how many character n-grams an answer shares with its reference, 0 to 100."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.metrics.metric import (
    FloatArray,
    References,
    ScoredRow,
    is_half,
    prompts_have,
)
from pipelines.metrics.sacre import sacre_signature, segment_statistics

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF

BETA = 2


class Chrf:
    """Corpus chrF2 as sacreBLEU computes it; of several references the best one counts.

    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation".

    Statistics: for each order 1 to 6 the n-grams of the answer, of the reference, and those they
    share.
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
        metric = _sacre()
        return segment_statistics(metric, row)

    def corpus(self, sums: FloatArray) -> FloatArray:
        """F2 of the mean precision and the mean recall over the orders that both sides have."""
        # Of each order three counts in a row, as sacreBLEU gives them.
        answer = sums[..., 0::3]
        reference = sums[..., 1::3]
        shared = sums[..., 2::3]
        has_order = (answer > 0) & (reference > 0)
        # The maximum avoids 0 / 0 in orders that `has_order` leaves out.
        precisions = shared / np.maximum(answer, 1)
        recalls = shared / np.maximum(reference, 1)
        precision = _mean_over(has_order, precisions)
        recall = _mean_over(has_order, recalls)
        weighted = BETA**2 * precision + recall
        product = 100 * (1 + BETA**2) * precision * recall
        # Where both are 0, so is the product: any divisor but 0 gives a score of 0.
        divisor = np.where(weighted > 0, weighted, 1)
        return np.asarray(product / divisor)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """SacreBLEU's signature."""
        metric = _sacre()
        return sacre_signature(metric, rows)

    def inapplicable(self, references: References) -> str | None:
        """Not where half of the prompts have references that are empty but for white space.

        One letter is enough: orders that the references do not have are not counted.
        """
        empty = sum(_is_mostly_empty(texts) for texts in references)
        if not is_half(empty, len(references)):
            return None
        return (
            f"{prompts_have(empty, len(references))} references "
            "that hold nothing but white space. Bring rows with completions"
        )


def _is_mostly_empty(texts: Sequence[str]) -> bool:
    total = len(texts)
    empty = 0
    for text in texts:
        if not text.strip():
            empty += 1
    return is_half(empty, total)


def _mean_over(has_order: NDArray[np.bool_], ratios: FloatArray) -> FloatArray:
    orders = has_order.sum(axis=-1)
    counted = np.where(has_order, ratios, 0)
    total = counted.sum(axis=-1)
    return np.asarray(total / np.maximum(orders, 1))


# Made once, not for each row.
@cache
def _sacre() -> "CHRF":
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
