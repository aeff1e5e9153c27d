"""What `make mutate` found that no other test of `admit` holds to: what its findings say."""

from pipelines.stages.admit import admit
from pipelines.values.dataset import BiasReport, GroupRate, ValidationReport
from tests.support import trials


def text_of(rule: str, validation: ValidationReport, bias: BiasReport) -> str:
    verdict = admit(trials.dataset(), validation, bias, trials.policy())
    (found,) = [each for each in verdict.findings if each.rule == rule]
    return found.text


def test_the_expectations_that_failed_are_named_and_no_other() -> None:
    report = trials.validation(trials.rows(), "0" * 64)
    (held,) = report.expectations
    failed = held.model_copy(update={"name": "expect_b", "passed": False})
    both = {"expectations": (held, failed), "passed": False}
    text = text_of("validation", report.model_copy(update=both), trials.data_bias())
    assert "1 of 2 expectations hold for every row; not: expect_b(x)" in text
    about_table = failed.model_copy(update={"name": "expect_rows", "column": None})
    both = {"expectations": (held, about_table), "passed": False}
    text = text_of("validation", report.model_copy(update=both), trials.data_bias())
    assert "not: expect_rows" in text
    assert "expect_rows(" not in text
    text = text_of("validation", report, trials.data_bias())
    assert text.endswith("1 of 1 expectations hold for every row")


def test_groups_without_a_feature_are_said_and_so_is_their_absence() -> None:
    rule, report = (
        "demographic_parity_difference",
        trials.validation(trials.rows(), "0" * 64),
    )
    none = text_of(rule, report, trials.data_bias())
    assert none == "no sensitive feature is declared: nothing was compared in the data"
    group = GroupRate(group="a", n=5, rate=None, score=None)
    small = {"groups": (group,), "insufficient": ("a",)}
    some = text_of(rule, report, trials.data_bias().model_copy(update=small))
    assert some == "the bias report compares groups of no feature"
