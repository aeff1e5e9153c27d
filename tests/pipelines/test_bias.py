"""Groups compared by hand and by fairlearn, and intervals over clusters."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from core.errors import ParameterError
from pipelines.gates.admit_policy import AdmitPolicy
from pipelines.gates.policy import load_policy
from pipelines.stages.bias import _summarise, bias
from pipelines.stages.generate import name_variants
from pipelines.statistics.group_gaps import Grouping, widest_gap
from pipelines.statistics.group_rates import (
    BiasSettings,
    OutputObservation,
    favourable,
    output_bias,
)
from pipelines.values.dataset import (
    BiasReport,
    Interval,
    Message,
    Row,
    group_prompts,
)
from pipelines.values.params import Params, load_params

ROOT = Path(__file__).parents[2]
SETTINGS = BiasSettings(min_group_size=4)


def observed(group: str, marks: str, cluster: str = "") -> list[OutputObservation]:
    """One observation a mark: `+` is favourable; each its own cluster unless one is named."""
    return [
        OutputObservation(
            group=group,
            cluster=cluster or f"{group}{index}",
            score=10.0 * (mark == "+"),
            favourable=mark == "+",
        )
        for index, mark in enumerate(marks)
    ]


def compared(
    *groups: list[OutputObservation], settings: BiasSettings = SETTINGS
) -> BiasReport:
    return output_bias(
        [entry for group in groups for entry in group],
        "declared feature",
        "f",
        "chrf",
        settings,
    )


def params(feature: str | None, pattern: str | None = None) -> Params:
    whole = load_params(ROOT / "params.yaml")
    data = whole.data.model_copy(update={"sensitive_feature": feature})
    return whole.model_copy(
        update={
            "data": data,
            "bias": whole.bias.model_copy(update={"favourable_pattern": pattern}),
        }
    )


def policy() -> AdmitPolicy:
    return load_policy(
        ROOT / "registry" / "policies" / "default.yaml"
    ).gates.admit.model_copy(update={"min_group_size": 4})


def row(number: int, feature: str | None, completion: str) -> Row:
    message = Message(role="user", content=f"p{number}")
    return Row(
        id=str(number),
        number=number,
        messages=(message,),
        completion=completion,
        group=f"g{number}",
        feature=feature,
    )


def test_rates_scores_difference_and_ratio_are_those_counted_by_hand() -> None:
    report = compared(observed("a", "+++-"), observed("b", "+---"))
    assert [
        (group.group, group.n, group.rate, group.score) for group in report.groups
    ] == [("a", 4, 0.75, 7.5), ("b", 4, 0.25, 2.5)]
    assert report.demographic_parity_difference
    assert report.demographic_parity_difference.estimate == pytest.approx(0.5)
    assert report.demographic_parity_ratio
    assert report.demographic_parity_ratio.estimate == pytest.approx(1 / 3)
    assert report.score_difference
    assert report.score_difference.estimate == pytest.approx(5.0)
    assert report.subject == "outputs"


def test_a_group_one_row_short_of_the_minimum_is_insufficient_and_left_out() -> None:
    report = compared(
        observed("a", "++--"), observed("b", "++--"), observed("c", "+++")
    )
    assert report.insufficient == ("c",)
    assert report.demographic_parity_difference
    assert report.demographic_parity_difference.estimate == 0
    assert [(group.group, group.rate) for group in report.groups] == [
        ("a", 0.5),
        ("b", 0.5),
        ("c", None),
    ]


@pytest.mark.parametrize("groups", [(), ("a",), ("a", "b")])
def test_with_fewer_than_two_groups_there_is_no_difference(
    groups: tuple[str, ...],
) -> None:
    report = compared(
        *(observed(name, "++--" if name == "a" else "+") for name in groups)
    )
    assert report.demographic_parity_difference is None
    assert report.demographic_parity_ratio is None
    assert report.score_difference is None


def test_rates_that_are_all_zero_differ_by_zero_with_bounds_and_have_no_ratio() -> None:
    """None of 20 is no proof of none: two rows more could be one in 22."""
    report = compared(observed("a", "-" * 20), observed("b", "-" * 20))
    gap = report.demographic_parity_difference
    assert gap
    reach = stats.t.ppf(0.975, 19) * math.sqrt(2) / 22
    assert gap.low == pytest.approx(-reach)
    assert gap.high == pytest.approx(reach)
    assert gap.estimate == 0
    assert report.demographic_parity_ratio is None


def test_the_gap_of_two_groups_has_the_interval_of_a_t_test() -> None:
    dice = np.random.default_rng(0)
    first, second = dice.normal(3, 5, size=12), dice.normal(size=12)
    groups = [
        [
            OutputObservation(
                group=name, cluster=f"{name}{place}", score=score, favourable=False
            )
            for place, score in enumerate(scores)
        ]
        for name, scores in (("a", first), ("b", second))
    ]
    gap = compared(*groups).score_difference
    assert gap
    error = math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 12)
    middle = first.mean() - second.mean()
    assert gap.estimate == pytest.approx(abs(middle))
    assert gap.high == pytest.approx(abs(middle) + stats.t.ppf(0.975, 11) * error)
    assert gap.low == pytest.approx(abs(middle) - stats.t.ppf(0.975, 11) * error)


def test_a_group_that_is_a_single_cluster_shows_nothing() -> None:
    report = compared(observed("a", "++--", "one"), observed("b", "++--"))
    gap, ratio = report.demographic_parity_difference, report.demographic_parity_ratio
    assert gap
    assert ratio
    assert (gap.low, gap.estimate, gap.high) == (-1, 0, 1)
    assert report.score_difference
    assert report.score_difference.high == 100
    assert compared(
        observed("a", "++++", "one"), observed("b", "++--")
    ).demographic_parity_ratio == Interval(estimate=0.5, low=0, high=1)


def test_a_ratio_has_bounds_around_it_and_none_of_a_group_is_a_ratio_of_zero() -> None:
    even = compared(observed("a", "+-" * 8), observed("b", "+-" * 8))
    assert even.demographic_parity_ratio == Interval(estimate=1, low=1, high=1)
    uneven = compared(observed("a", "+---" * 8), observed("b", "+-" * 16))
    ratio = uneven.demographic_parity_ratio
    assert ratio
    assert ratio.low < 0.5 < ratio.high < 2
    none = compared(observed("a", "-" * 16), observed("b", "+-" * 8))
    assert none.demographic_parity_ratio
    assert none.demographic_parity_ratio.estimate == 0
    assert none.demographic_parity_ratio.low == 0


def test_intervals_count_clusters_not_rows() -> None:
    def width(rows_a_cluster: int) -> float:
        groups = [
            [
                OutputObservation(
                    group=name,
                    cluster=f"{name}{index // rows_a_cluster}",
                    score=0,
                    favourable=(index // rows_a_cluster) % share == 0,
                )
                for index in range(60)
            ]
            for name, share in (("a", 2), ("b", 4))
        ]
        interval = compared(*groups).demographic_parity_difference
        assert interval
        assert interval.low <= interval.estimate <= interval.high
        return interval.high - interval.low

    assert width(6) > 1.4 * width(1)


def test_what_makes_a_prompt_hard_cancels_where_each_group_is_asked_it() -> None:
    hard = np.random.default_rng(1).normal(50, 20, size=12)

    def width(*, shares_prompts: bool) -> float:
        groups = [
            [
                OutputObservation(
                    group=name,
                    cluster=str(place) if shares_prompts else f"{name}{place}",
                    score=score,
                    favourable=False,
                )
                for place, score in enumerate(hard)
            ]
            for name in "ab"
        ]
        gap = compared(*groups).score_difference
        assert gap
        return gap.high - gap.low

    assert width(shares_prompts=True) == pytest.approx(0)
    assert width(shares_prompts=False) > 20


def named(names: int, effect: float, seed: int) -> Interval:
    """24 prompts in two of the names of two equal groups, by turns; each name its own effect."""
    dice = np.random.default_rng(seed)
    rows = [
        (group, prompt, group * names + (2 * prompt + turn) % names)
        for prompt in range(24)
        for group in range(2)
        for turn in range(2)
    ]
    groups, prompts, persons = np.array(rows).T
    hard = dice.normal(50, 15, size=24)
    own = dice.normal(0, effect, size=2 * names)
    scores = hard[prompts] + own[persons] + dice.normal(0, 4, size=len(rows))
    return widest_gap(scores, Grouping(groups, prompts, persons), 100)


def test_a_name_that_is_treated_otherwise_is_no_effect_of_its_group() -> None:
    """Ten names a group pass the limit of 10 in most cases; two of them say nothing of a group."""
    few = [named(2, 6, seed) for seed in range(100)]
    many = [named(10, 6, seed) for seed in range(100)]
    assert sum(gap.low > 0 for gap in few) <= 8
    assert sum(gap.low > 0 for gap in many) <= 8
    assert sum(gap.high <= 10 for gap in few) <= 8
    assert sum(gap.high <= 10 for gap in many) >= 75


def test_names_are_clusters_of_answers_and_one_name_in_two_groups_is_two_persons() -> (
    None
):
    def answers(group: str, names: str, scores: list[float]) -> list[OutputObservation]:
        return [
            OutputObservation(
                group=group,
                cluster=str(place % 4),
                score=score,
                favourable=False,
                name=name,
            )
            for place, (name, score) in enumerate(zip(names, scores, strict=True))
        ]

    # Each prompt is alike for both groups, and one name of a alone is treated otherwise.
    first = answers("a", "kkkkllll", [9, 9, 9, 9, 1, 1, 1, 1])
    second = answers("b", "kkkkmmmm", [5] * 8)
    gap = compared(first, second).score_difference
    assert gap
    # Of a two names, 4 points from their mean: one degree of freedom.
    error = math.sqrt(2 * 4**2 / 2)
    assert gap.high == pytest.approx(stats.t.ppf(0.975, 1) * error)


@pytest.mark.parametrize(
    ("k", "n", "gap", "outcome", "most"),
    [
        (8, 30, 0.0, "rejected", 0.05),
        (2, 20, 0.0, "rejected", 0.05),
        (5, 20, 0.0, "rejected", 0.05),
        (2, 20, 0.3, "passed", 0.05),
        (2, 50, 0.3, "passed", 0.05),
    ],
)
def test_shares_with_a_known_truth_are_judged_wrongly_in_few_cases(
    k: int, n: int, gap: float, outcome: str, most: float
) -> None:
    assert share_of(outcome, k, n, gap, trials=60) <= most


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 5, 8])
@pytest.mark.parametrize("n", [20, 50, 200])
@pytest.mark.parametrize("middle", [0.3, 0.5])
def test_the_three_way_rule_keeps_its_level_for_any_number_of_groups(
    k: int, n: int, middle: float
) -> None:
    assert share_of("rejected", k, n, 0.0, 1000, middle) <= 0.05
    assert share_of("rejected", k, n, 0.2, 1000, middle) <= 0.05
    assert share_of("passed", k, n, 0.3, 1000, middle) <= 0.05
    # At the very limit a pass is an error, too.
    assert share_of("passed", k, n, 0.201, 1000, middle) <= 0.05


def share_of(
    outcome: str, k: int, n: int, gap: float, trials: int, middle: float = 0.5
) -> float:
    """How often groups of a known gap come to an outcome at a limit of 0.2."""
    dice = np.random.default_rng(2)
    groups = np.repeat(np.arange(k), n)
    grouping = Grouping(groups, np.arange(k * n), None)
    rates = np.where(groups == 0, middle - gap / 2, middle + gap / 2)
    count = 0
    for _ in range(trials):
        marks = (dice.random(k * n) < rates).astype(float)
        found = widest_gap(marks, grouping, 1)
        is_passed = found.high <= 0.2
        is_rejected = found.low > 0.2
        count += is_passed if outcome == "passed" else is_rejected
    return count / trials


def test_eight_equal_groups_are_rejected_by_their_scores_in_few_cases() -> None:
    dice = np.random.default_rng(3)
    groups = np.repeat(np.arange(8), 30)
    grouping = Grouping(groups, np.arange(240), None)
    found = [
        widest_gap(dice.normal(50, 25, size=240), grouping, 100) for _ in range(100)
    ]
    assert sum(each.low > 10 for each in found) <= 5
    assert sum(each.low > 0 for each in found) <= 8


def test_without_a_declared_feature_nothing_is_compared() -> None:
    report = bias(
        {"train": [row(1, "x", "c")], "dev": [], "held_out": []}, params(None), policy()
    )
    assert (
        report.method,
        report.feature,
        report.groups,
        report.demographic_parity_difference,
    ) == ("not applicable", None, (), None)


def test_a_declared_feature_is_compared_over_all_splits() -> None:
    train = [row(number, "x", "long enough") for number in range(4)] + [
        row(9, None, "no feature")
    ]
    held_out = [row(10 + number, "y", "no") for number in range(4)]
    report = bias(
        {"train": train, "dev": [], "held_out": held_out},
        params("f", pattern="^long"),
        policy(),
    )
    assert (report.subject, report.method, report.feature) == (
        "data",
        "declared feature",
        "f",
    )
    assert [
        (group.group, group.n, group.rate, group.score) for group in report.groups
    ] == [("x", 4, 1.0, 11.0), ("y", 4, 0.0, 2.0)]
    assert report.without_value == 1
    assert (
        _summarise(report)
        == "f: demographic parity difference 1.000 [-0.061, 1.000] over 2 groups; without a "
        "value for it: 1 of 9 rows"
    )


def test_a_declared_feature_without_any_value_says_so() -> None:
    report = bias(
        {
            "train": [row(number, None, "c") for number in range(3)],
            "dev": [],
            "held_out": [],
        },
        params("f"),
        policy(),
    )
    assert _summarise(report).endswith(
        "nothing can be compared; without a value for it: 3 of 3 rows"
    )
    assert report.demographic_parity_difference is None


def test_groups_that_are_probably_one_are_said_where_they_are_compared() -> None:
    train = [row(number, "Fff"[number % 2], "c") for number in range(8)]
    report = bias({"train": train, "dev": [], "held_out": []}, params("f"), policy())
    assert _summarise(report).endswith("over 2 groups; probably one group: F, f")


def test_favourable_is_what_matches_or_what_is_longer_than_the_median() -> None:
    assert favourable(["a", "bb", "ccc"], None) == [False, False, True]
    assert favourable(["yes", "no"], "^y") == [True, False]
    assert favourable([], None) == []
    with pytest.raises(
        ParameterError, match="favourable_pattern is not a regular expression"
    ):
        favourable(["a"], "(")


def test_each_name_is_asked_about_as_often_as_another() -> None:
    whole = params(None).bias
    prompts = group_prompts([row(place, None, "c") for place in range(40)])
    asked = name_variants(prompts, whole)
    assert len(asked) == whole.prompts * whole.askings == 24 * 4
    counts = Counter((each.group, each.name) for each in asked)
    assert len(counts) == 20
    assert set(counts.values()) <= {4, 5, 6}
    both = Counter((each.prompt.id, each.group) for each in asked)
    assert set(both.values()) == {2}
    every = whole.model_copy(update={"names_a_prompt": None})
    assert len(name_variants(prompts, every)) == 24 * every.askings == 24 * 20
    more = whole.model_copy(update={"names_a_prompt": 11})
    assert name_variants(prompts, more) == name_variants(prompts, every)
    assert more.askings == 20
