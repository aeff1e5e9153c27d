"""BLEU: how many word n-grams of the answers occur in a reference, 0 to 100."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from pipelines.metrics.metric import FloatArray, ScoredRow
from pipelines.metrics.sacre import sacre_signature, segment_statistics

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

ORDERS = 4


class Bleu:
    """sacreBLEU's corpus BLEU over all references, with its exponential smoothing.

    Sources: Papineni et al. 2002; Post 2018, "A Call for Clarity in Reporting BLEU Scores".

    A property of the corpus: the mean of row scores is another number. Statistics: length of the
    answer, length of the nearest reference, n-grams that match for orders 1 to 4, n-grams in all
    for orders 1 to 4.
    """

    name = "bleu"
    unit = "0 to 100"
    higher_is_better = True
    scale = 100.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Lengths and n-gram counts of the row."""
        metric = _sacre()
        return segment_statistics(metric, row)

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Geometric mean of the four precisions, times the penalty for short answers."""
        length = sums[..., 0]
        reference_length = sums[..., 1]
        matches = sums[..., 2 : 2 + ORDERS]
        totals = sums[..., 2 + ORDERS :]
        # The maxima avoid divisions by 0; such a corpus scores 0 below.
        precisions = _smooth(matches, np.maximum(totals, 1))
        mean_log = np.log(precisions).mean(axis=-1)
        length_ratio = reference_length / np.maximum(length, 1)
        log_penalty = np.minimum(1 - length_ratio, 0)
        scores = 100 * np.exp(mean_log + log_penalty)
        # sacreBLEU gives 0 where nothing matches, or where no answer has four words.
        has_match = matches.any(axis=-1)
        has_every_order = (totals > 0).all(axis=-1)
        is_scored = has_match & has_every_order
        return np.asarray(np.where(is_scored, scores, 0.0))

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """SacreBLEU's signature."""
        metric = _sacre()
        return sacre_signature(metric, rows)


def _smooth(matches: FloatArray, totals: FloatArray) -> FloatArray:
    """Precisions; the k-th order without a match gets 1 / (2^k total), as in mteval-v13a."""
    is_empty = matches == 0
    halvings = 2.0 ** np.cumsum(is_empty, axis=-1)
    smoothed = np.where(is_empty, 1 / halvings, matches)
    return np.asarray(smoothed / totals)


# Made once, not for each row.
@cache
def _sacre() -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(force=True)
