"""Groups compared by hand and by fairlearn, and intervals over clusters."""

from pathlib import Path

import pytest

from core.errors import ParameterError
from pipelines.gates.admit_policy import AdmitPolicy
from pipelines.gates.policy import load_policy
from pipelines.stages.bias import _summarise, bias
from pipelines.statistics.group_rates import (
    BiasSettings,
    OutputObservation,
    favourable,
    output_bias,
)
from pipelines.values.dataset import BiasReport, Message, Row
from pipelines.values.params import Params, load_params

ROOT = Path(__file__).parents[2]
SETTINGS = BiasSettings(min_group_size=4, resamples=400, seed=0)


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


def test_rates_that_are_all_zero_differ_by_zero_and_have_no_ratio() -> None:
    report = compared(observed("a", "----"), observed("b", "----"))
    assert report.demographic_parity_difference
    assert report.demographic_parity_difference.high == 0
    assert report.demographic_parity_ratio is None


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


def test_the_same_seed_draws_the_same_interval() -> None:
    groups = observed("a", "+-+-+-+-"), observed("b", "++++---+")
    assert compared(*groups) == compared(*groups)
    assert compared(*groups) != compared(
        *groups, settings=SETTINGS.model_copy(update={"seed": 1})
    )


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
        == "f: demographic parity difference 1.000 [1.000, 1.000] over 2 groups; without a "
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
