"""Answers that were drawn by chance: a row counts as the mean of its samples, and how they differ.

k answers ─ row_statistics of each ─┬─ mean ─► statistics, which every score is made of
                                    └─ score of each ─► pass^k, variance within the row
"""

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from core.errors import IncompleteEvidence
from pipelines.metrics import FloatArray, Metric, OwnMetric, ScoredRow
from pipelines.statistics.bootstrap import interval, sums_by_group
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Resampling, SampledScore

OF_THE_WHOLE = frozenset({"bleu", "label_f1"})
"""Metrics that say nothing of one answer by itself: only of a whole set of them."""
_ROUNDING = 1e-9


class _AllRight:
    """The share of prompts whose samples are all right: a mean over prompts."""

    name = "pass^k"
    higher_is_better = True

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Right prompts over all prompts."""
        right = sums[..., 0]
        prompts = sums[..., 1]
        return right / prompts


def as_one_sample(row: ScoredRow, text: str) -> ScoredRow:
    """The row as if that sample were its only answer."""
    return row.model_copy(update={"prediction": text, "samples": ()})


def list_answers(row: ScoredRow) -> tuple[ScoredRow, ...]:
    """A row for each answer that is scored: its samples, and without any the greedy one."""
    if not row.samples:
        return (row,)
    return tuple(as_one_sample(row, text) for text in row.samples)


def mean_statistics(metric: Metric, row: ScoredRow) -> tuple[float, ...]:
    """What the row adds to the sums: that of its answer, or the mean over its samples."""
    each = [metric.row_statistics(answer) for answer in list_answers(row)]
    first = each[0]
    # Not divided where nothing differs: the losses of a row are the same for each of its samples.
    if all(statistics == first for statistics in each):
        return first
    return tuple(math.fsum(column) / len(each) for column in zip(*each, strict=True))


def scores_of_samples(metric: Metric, row: ScoredRow) -> tuple[float, ...]:
    """The score of each sample by itself; none where the metric says nothing of one answer.

    `IncompleteEvidence` where a score is NaN or infinite.
    """
    # Without a worst score it is about losses, and not about answers.
    if not row.samples or metric.worst is None or _is_of_the_whole(metric):
        return ()
    scores: list[float] = []
    for answer in list_answers(row):
        statistics = np.array(metric.row_statistics(answer), dtype=np.float64)
        score = float(metric.corpus(statistics))
        if not math.isfinite(score):
            raise IncompleteEvidence(
                f"{metric.name} of a sample of prompt {row.prompt_id} is {score}. "
                "Have the metric give every answer a number."
            )
        scores.append(score)
    return tuple(scores)


def _is_of_the_whole(metric: Metric) -> bool:
    # A formula over sums may have no number for one answer, as 0 / 0 has none.
    if isinstance(metric, OwnMetric):
        return metric.record.formula is not None
    return metric.name in OF_THE_WHOLE


def sampled_score(
    metric: Metric,
    scores: Sequence[tuple[float, ...]],
    clusters: Sequence[str],
    resampling: Resampling,
) -> SampledScore | None:
    """How the samples of each row differ; None where rows have none.

    `scores`: for each prompt those of its samples. `IncompleteEvidence` where rows have other
    numbers of samples.
    """
    counts = {len(row) for row in scores}
    if counts == {0}:
        return None
    if len(counts) != 1:
        raise IncompleteEvidence(
            f"{metric.name}: prompts have {sorted(counts)} sampled scores. "
            "Run the score stage again."
        )
    table = np.array(scores, dtype=np.float64)
    # Of k drawn ones: divided by k - 1.
    variances = table.var(axis=1, ddof=1)
    return SampledScore(
        samples=table.shape[1],
        all_right=_all_right(metric, table, clusters, resampling),
        variance=float(variances.mean()),
    )


def _all_right(
    metric: Metric,
    table: FloatArray,
    clusters: Sequence[str],
    resampling: Resampling,
) -> Interval | None:
    worst = metric.worst
    if worst is None:
        return None
    best = worst + metric.scale if metric.higher_is_better else worst - metric.scale
    is_right = np.abs(table - best) <= _ROUNDING * metric.scale
    rows = is_right.all(axis=1).astype(np.float64)
    statistics = np.column_stack([rows, np.ones_like(rows)])
    # Clusters and not prompts, as for every other number.
    sums = sums_by_group(clusters, statistics)
    return interval(cast("Metric", _AllRight()), sums, resampling)
