"""Krippendorff's alpha and means of ratings, against published values and by simulation."""

import numpy as np
import pytest

from pipelines.statistics.agreement import WIDTH, mean_of_clusters, ordinal_alpha
from pipelines.values.evidence import Resampling

RESAMPLING = Resampling(resamples=400, seed=0)
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section D: four observers.
PUBLISHED = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
)


def items_of(observers: tuple[tuple[int, ...], ...]) -> list[list[int]]:
    """Values by item, without those that are missing (0)."""
    return [[value for value in item if value] for item in zip(*observers, strict=True)]


def test_ordinal_alpha_is_the_published_one() -> None:
    alpha = ordinal_alpha(items_of(PUBLISHED), RESAMPLING)
    assert alpha is not None
    assert round(alpha.estimate, 3) == 0.815
    assert alpha.low < 0.815 <= alpha.high


def test_a_table_that_is_counted_by_hand_has_the_same_alpha() -> None:
    # Each value 1, 2, 3 occurs 3, 3 and 2 times; 1 meets 2 once in either order.
    alpha = ordinal_alpha([[1, 1], [1, 2], [2, 2], [3, 3]], RESAMPLING)
    assert alpha is not None
    # Middle ranks 1.5, 4.5, 7; observed 2·9; expected 2·(3·3·9 + 3·2·30.25 + 3·2·6.25).
    assert alpha.estimate == pytest.approx(1 - 7 * 18 / (2 * (81 + 181.5 + 37.5)))


def test_people_who_agree_on_everything_have_an_alpha_of_one() -> None:
    alpha = ordinal_alpha([[1, 1], [5, 5], [3, 3], [2, 2]] * 5, RESAMPLING)
    assert alpha is not None
    assert (alpha.low, alpha.estimate) == (1, 1)


def test_two_items_that_two_people_rated_are_enough_for_an_alpha() -> None:
    alpha = ordinal_alpha([[1, 1], [5, 5], [3]], RESAMPLING)
    assert alpha is not None
    assert alpha.estimate == 1


def test_random_ratings_do_not_agree() -> None:
    random = np.random.default_rng(1)
    items = random.integers(1, 6, size=(200, 3)).tolist()
    alpha = ordinal_alpha(items, RESAMPLING)
    assert alpha is not None
    assert alpha.low < 0 < alpha.high


def test_opposite_ratings_are_worse_than_chance() -> None:
    alpha = ordinal_alpha([[1, 5], [5, 1]] * 10, RESAMPLING)
    assert alpha is not None
    assert alpha.high < 0


@pytest.mark.parametrize(
    "items",
    [[], [[3, 3]], [[1], [5], [2, 2]], [[4, 4]] * 20],
    ids=["none", "one item", "one item with two values", "one value alone"],
)
def test_what_nobody_could_disagree_on_shows_no_agreement(
    items: list[list[int]],
) -> None:
    assert ordinal_alpha(items, RESAMPLING) is None


def test_a_resample_of_one_value_alone_counts_as_no_agreement() -> None:
    # One item of eight differs: a third of all resamples lacks it, and their alpha is 0 / 0.
    alpha = ordinal_alpha([[1, 1]] + [[4, 4]] * 7, RESAMPLING)
    assert alpha is not None
    assert (alpha.low, alpha.high) == (0, 1)


def test_a_mean_has_the_bounds_of_students_t_where_those_are_wider() -> None:
    clusters = [np.array([float(number)]) for number in (0, 1, 0, 1, 0, 1, 0, 1, 0, 20)]
    mean = mean_of_clusters(clusters, WIDTH, RESAMPLING)
    assert mean is not None
    # By hand: mean 2.4, standard error 1.9619, t of 9 degrees of freedom 2.2622.
    assert mean.estimate == pytest.approx(2.4)
    assert mean.low == pytest.approx(2.4 - 2.26216 * 1.96187, abs=1e-3)


def test_equal_numbers_leave_room_for_what_was_not_drawn() -> None:
    mean = mean_of_clusters([np.zeros(1)] * 24, WIDTH, RESAMPLING)
    assert mean is not None
    missed = 4 * (1 - 0.025 ** (1 / 24))
    assert (mean.estimate, mean.low, mean.high) == (0, -missed, missed)


def test_rows_of_one_cluster_count_as_one() -> None:
    # Nine rows that say the same show no more than one.
    one = mean_of_clusters([np.ones(1), np.zeros(1)] * 8, 1, RESAMPLING)
    many = mean_of_clusters([np.ones(9), np.zeros(9)] * 8, 1, RESAMPLING)
    assert one == many


def test_one_cluster_has_no_bounds_and_two_have() -> None:
    assert mean_of_clusters([np.ones(40)], WIDTH, RESAMPLING) is None
    two = mean_of_clusters([np.ones(1), np.zeros(1)], WIDTH, RESAMPLING)
    assert two is not None
    assert two.estimate == 0.5


def test_the_bounds_of_a_mean_hold() -> None:
    random = np.random.default_rng(7)
    missed = 0
    for _ in range(300):
        drawn = random.normal(0.3, 1, size=12)
        mean = mean_of_clusters([np.array([each]) for each in drawn], 4, RESAMPLING)
        assert mean is not None
        missed += not mean.low <= 0.3 <= mean.high
    # 5 % of 300 are 15; 27 is three standard errors more.
    assert missed <= 27
