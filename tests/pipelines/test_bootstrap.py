"""Intervals cover what they claim, count groups, pair systems, and refuse NaN."""

import math

import numpy as np
import pytest
from scipy import stats

from core.errors import IncompleteEvidence
from pipelines.metrics import FloatArray, ScoredRow
from pipelines.metrics.bits_per_byte import BitsPerByte
from pipelines.metrics.bleu import Bleu
from pipelines.metrics.exact_match import ExactMatch
from pipelines.metrics.perplexity_per_token import PerplexityPerToken
from pipelines.statistics.bootstrap import (
    CELLS,
    DRAWS_BEYOND,
    expanded_tail,
    interval,
    paired_difference,
    sums_by_group,
)
from pipelines.values.evidence import Resampling

FEW = Resampling(resamples=300, seed=0)
SCORED = ScoredRow(prompt_id="p", prediction="a b c d", references=("a b c d",))


def means(values: FloatArray) -> FloatArray:
    """Statistics under which a metric that divides two sums is a mean of `values`."""
    return np.column_stack([values, np.ones(len(values))])


def test_statistics_are_summed_within_groups() -> None:
    sums = sums_by_group(
        ["b", "a", "b"], np.array([[1.0, 2.0], [10.0, 20.0], [3.0, 4.0]])
    )
    assert sums.tolist() == [[10, 20], [4, 6]]


def test_at_equal_quality_superiority_is_claimed_about_as_often_as_alpha() -> None:
    dice = np.random.default_rng(1)
    claims = 0
    for trial in range(400):
        common = dice.normal(size=30)
        own, other = (means(common + dice.normal(size=30)) for _ in range(2))
        claims += (
            paired_difference(
                ExactMatch(), own, other, 0.05, Resampling(resamples=500, seed=trial)
            ).low
            > 0
        )
    assert 0.02 <= claims / 400 <= 0.07


def test_intervals_cover_the_truth_for_few_and_skewed_groups() -> None:
    dice = np.random.default_rng(2)
    covered = 0
    for trial in range(300):
        found = interval(
            ExactMatch(),
            means(dice.normal(size=20)),
            Resampling(resamples=500, seed=trial),
        )
        covered += found.low <= 0 <= found.high
    assert covered / 300 >= 0.92


def test_what_both_systems_share_cancels_since_they_are_resampled_together() -> None:
    dice = np.random.default_rng(3)
    hard_and_easy = dice.normal(scale=50, size=40)
    own, other = (
        means(hard_and_easy + 1 + dice.normal(scale=0.5, size=40)),
        means(hard_and_easy),
    )
    found = paired_difference(ExactMatch(), own, other, 0.05, FEW)
    assert found.low > 0
    assert found.standard_error < 0.2
    shuffled = paired_difference(
        ExactMatch(), own, other[dice.permutation(40)], 0.05, FEW
    )
    assert shuffled.low < 0
    assert shuffled.standard_error > 5


def test_rows_of_one_group_count_as_one_cluster() -> None:
    dice = np.random.default_rng(4)
    by_group = dice.normal(size=10)
    rows = means(np.repeat(by_group, 50))
    groups = [str(number) for number in np.repeat(np.arange(10), 50)]
    clustered = interval(ExactMatch(), sums_by_group(groups, rows), FEW)
    as_if_alone = interval(
        ExactMatch(), sums_by_group([str(number) for number in range(500)], rows), FEW
    )
    assert clustered.high - clustered.low > 4 * (as_if_alone.high - as_if_alone.low)


def test_a_metric_that_is_better_when_lower_gives_positive_differences_for_less() -> (
    None
):
    own, other = means(np.array([1.0, 2.0, 1.5])), means(np.array([2.0, 3.0, 2.5]))
    assert paired_difference(
        BitsPerByte(), own, other, 0.05, FEW
    ).difference == pytest.approx(1)
    assert paired_difference(
        ExactMatch(), own, other, 0.05, FEW
    ).difference == pytest.approx(-1)


def test_the_standard_error_is_that_of_the_mean_difference() -> None:
    values = np.random.default_rng(5).normal(size=200)
    found = paired_difference(
        ExactMatch(),
        means(values),
        means(np.zeros(200)),
        0.05,
        Resampling(resamples=4000, seed=0),
    )
    assert found.standard_error == pytest.approx(
        values.std() / math.sqrt(200), rel=0.05
    )
    assert found.difference == pytest.approx(values.mean())
    assert found.clusters == 200


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = means(np.random.default_rng(6).normal(size=25))
    first, again, other = (
        interval(ExactMatch(), values, Resampling(resamples=300, seed=seed))
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_many_groups_are_drawn_in_chunks_that_bound_memory() -> None:
    values = means(np.random.default_rng(7).normal(size=20_001))
    assert CELLS // 20_001 < 200
    found = interval(ExactMatch(), values, Resampling(resamples=200, seed=0))
    assert found.low < found.estimate < found.high


def test_fewer_clusters_widen_the_percentiles_as_students_t_does() -> None:
    assert expanded_tail(0.025, 10**6) == pytest.approx(0.025, rel=1e-3)
    assert expanded_tail(0.025, 20) == pytest.approx(0.0158, abs=3e-4)
    assert expanded_tail(0.025, 5) < expanded_tail(0.025, 10) < expanded_tail(0.025, 20)


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
def test_a_nan_or_infinity_is_refused_and_never_dropped(hole: float) -> None:
    values = np.array([1.0, hole, 2.0])
    with pytest.raises(IncompleteEvidence, match="1 of 6 numbers are NaN or infinite"):
        sums_by_group(["a", "b", "c"], means(values))
    with pytest.raises(IncompleteEvidence, match="NaN or infinite"):
        interval(ExactMatch(), means(values), FEW)


def test_a_loss_too_large_for_a_perplexity_is_refused() -> None:
    with pytest.raises(IncompleteEvidence, match="perplexity_per_token"):
        interval(PerplexityPerToken(), means(np.array([1e4, 1e4])), FEW)


def test_one_group_has_no_spread_and_unequal_groups_do_not_pair() -> None:
    with pytest.raises(IncompleteEvidence, match="1 group"):
        interval(ExactMatch(), means(np.array([1.0])), FEW)
    with pytest.raises(IncompleteEvidence, match="3 groups against 2"):
        paired_difference(
            ExactMatch(), means(np.zeros(3)), means(np.zeros(2)), 0.05, FEW
        )


@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_hold_the_estimate_where_a_skewed_metric_would_leave_it_out(
    sign: int,
) -> None:
    """The median of the resamples is not the mean; bounds at a level of a half are that median."""
    skewed = means(np.array([sign * 2.0**power for power in range(30)]))
    found = paired_difference(ExactMatch(), skewed, means(np.zeros(30)), 0.5, FEW)
    assert found.low <= found.difference <= found.high
    assert found.difference in {found.low, found.high}
    assert found.low < found.high


@pytest.mark.parametrize("alpha", [0.05, 0.0072, 0.0004])
def test_with_few_resamples_the_bounds_are_those_of_students_t(alpha: float) -> None:
    values = np.random.default_rng(8).normal(size=37)
    found = paired_difference(
        ExactMatch(), means(values), means(np.zeros(37)), alpha, FEW
    )
    error = stats.sem(values)
    low, high = stats.t.interval(1 - 2 * alpha, 36, values.mean(), error)
    assert found.low == pytest.approx(low, abs=1e-12)
    assert found.high == pytest.approx(high, abs=1e-12)
    assert found.standard_error == pytest.approx(error, abs=1e-12)


def test_the_jackknife_of_a_ratio_is_the_one_counted_by_hand() -> None:
    """Clusters of unequal size, and a metric that is better when lower: bits over bytes."""
    own = np.array([[10.0, 4], [3, 2], [20, 9], [7, 1]])
    other = np.array([[12.0, 4], [5, 2], [19, 9], [9, 1]])
    without = []
    for place in range(4):
        kept = [row for row in range(4) if row != place]
        ratios = [rows[kept, 0].sum() / rows[kept, 1].sum() for rows in (own, other)]
        without.append(ratios[1] - ratios[0])
    spread = [(each - sum(without) / 4) ** 2 for each in without]
    error = math.sqrt(3 / 4 * sum(spread))
    estimate = (45 - 40) / 16
    found = paired_difference(BitsPerByte(), own, other, 0.05, FEW)
    assert found.difference == pytest.approx(estimate)
    assert found.standard_error == pytest.approx(error)
    assert found.low == pytest.approx(estimate - stats.t.ppf(0.95, 3) * error)
    assert found.high == pytest.approx(estimate + stats.t.ppf(0.95, 3) * error)


def test_each_bound_is_the_wider_of_percentile_and_t() -> None:
    skewed = means(np.random.default_rng(9).lognormal(sigma=1.5, size=40))
    zeros = means(np.zeros(40))
    both, alone = (
        paired_difference(ExactMatch(), skewed, zeros, 0.05, Resampling(**draws))
        for draws in ({"resamples": 2000, "seed": 0}, {"resamples": 1999, "seed": 0})
    )
    assert DRAWS_BEYOND == 2000 * 0.05
    # The t bound is symmetric; the percentile of skewed values reaches further up.
    assert both.low == alone.low
    assert both.high > alone.high


def test_a_jackknife_of_bleu_leaves_out_whole_clusters() -> None:
    dice = np.random.default_rng(10)
    metric = Bleu()
    width = len(metric.row_statistics(SCORED))
    own, other = (dice.integers(1, 9, size=(6, width)).astype(float) for _ in "ab")
    total = [float(metric.corpus(rows.sum(axis=0))) for rows in (own, other)]
    left_out = np.array(
        [
            float(metric.corpus(own.sum(axis=0) - own[place]))
            - float(metric.corpus(other.sum(axis=0) - other[place]))
            for place in range(6)
        ]
    )
    error = math.sqrt(5 / 6 * ((left_out - left_out.mean()) ** 2).sum())
    found = paired_difference(metric, own, other, 0.05, FEW)
    assert found.difference == pytest.approx(total[0] - total[1])
    assert found.standard_error == pytest.approx(error)


def test_with_unequal_clusters_the_bounds_hold_their_level() -> None:
    dice = np.random.default_rng(11)
    trials = 600
    claims = 0
    for trial in range(trials):
        sizes = dice.lognormal(size=37)
        sums = np.column_stack([dice.normal(size=37) * sizes, sizes])
        zeros = np.column_stack([np.zeros(37), sizes])
        draws = Resampling(resamples=2000, seed=trial)
        claims += paired_difference(ExactMatch(), sums, zeros, 0.05, draws).low > 0
    assert 0.02 <= claims / trials <= 0.06
