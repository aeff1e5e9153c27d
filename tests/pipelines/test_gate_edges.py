"""What `make mutate` found that no other test holds to: the edges of the gates."""

from pipelines.gates.bias_check import TOLERANCE as OF_BIAS
from pipelines.gates.bias_check import find_contradictions
from pipelines.gates.comparisons import TOLERANCE, list_differences
from pipelines.values.dataset import BiasReport, Interval
from tests.support import trials

NO_GAP = Interval(estimate=0, low=0, high=0)


def stating(difference: float) -> BiasReport:
    """Two groups with equal scores, and a report that states this difference between them."""
    stated = Interval(estimate=difference, low=-1, high=1)
    return trials.bias(NO_GAP).model_copy(update={"score_difference": stated})


def with_first_group(report: BiasReport, **changes: object) -> BiasReport:
    first, *others = report.groups
    groups = (first.model_copy(update=changes), *others)
    return report.model_copy(update={"groups": groups})


def test_numbers_as_far_apart_as_the_tolerance_are_the_same() -> None:
    assert list(list_differences("score", 0.0, TOLERANCE)) == []
    assert list(list_differences("score", 0.0, 2 * TOLERANCE)) != []


def test_a_number_and_a_text_differ_whichever_of_them_is_stored() -> None:
    one, other = (
        list_differences("score", 1.0, "1.0"),
        list_differences("score", "1.0", 1.0),
    )
    assert list(one) == ["score: 1.0 stored, '1.0' recomputed"]
    assert list(other) == ["score: '1.0' stored, 1.0 recomputed"]


def test_a_value_of_120_characters_is_shown_whole_and_a_longer_one_is_cut() -> None:
    whole, long = "-" * 118, "-" * 119
    shown, cut = list_differences("text", whole, ""), list_differences("text", long, "")
    assert list(shown) == [f"text: '{whole}' stored, '' recomputed"]
    assert list(cut) == [f"text: '{'-' * 116}... stored, '' recomputed"]


def test_a_stated_difference_may_be_off_by_the_tolerance_and_no_more() -> None:
    assert find_contradictions(stating(OF_BIAS)) == ()
    (found,) = find_contradictions(stating(2 * OF_BIAS))
    assert "its score difference is" in found


def test_a_large_group_without_a_rate_or_without_a_score_contradicts_itself() -> None:
    for missing in ("rate", "score"):
        report = with_first_group(trials.bias(NO_GAP), **{missing: None})
        assert "a has 30 rows and no rate" in find_contradictions(report)


def test_a_report_that_names_other_small_groups_is_told_both_lists() -> None:
    report = trials.bias(NO_GAP, small=("c",))
    (found,) = find_contradictions(report.model_copy(update={"insufficient": ()}))
    assert found == "under 20 rows are c, it says none"
    grown = trials.bias(NO_GAP).model_copy(update={"insufficient": ("c",)})
    assert find_contradictions(grown) == ("under 20 rows are none, it says c",)
