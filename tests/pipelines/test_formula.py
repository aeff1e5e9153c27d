"""An own metric that is a formula over sums is as exact as a built-in one, and is no code."""

import ast

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.metrics import FloatArray
from pipelines.metrics.own import OwnMetric
from pipelines.metrics.own_formula import evaluate_formula
from pipelines.statistics.bootstrap import interval, paired_difference
from pipelines.values.evidence import Resampling
from pipelines.values.formula import MOST_PARTS, parse_formula
from pipelines.values.own_metric import OwnMetricRecord

CORRELATION = (
    "(n * xy - x * y) / sqrt(max((n * xx - x ** 2) * (n * yy - y ** 2), 1e-12))"
)
NAMES = ("n", "x", "y", "xx", "yy", "xy")


def record(**changes: object) -> OwnMetricRecord:
    document: dict[str, object] = {
        "name": "agreement",
        "sha256": "0" * 64,
        "unit": "-1 to 1",
        "higher_is_better": True,
        "scale": 2.0,
        "worst": -1.0,
        "compares_answers": True,
        "method": None,
        "inapplicable": None,
        "statistics": NAMES,
        "formula": CORRELATION,
    }
    return OwnMetricRecord.model_validate({**document, **changes})


def statistics(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.column_stack([np.ones_like(x), x, y, x * x, y * y, x * y])


def test_a_formula_is_computed_again_in_every_resample() -> None:
    """The correlation of answers with references is no mean: numpy's own, of rows, agrees."""
    random = np.random.default_rng(3)
    wanted = random.normal(size=40)
    own, other = (wanted + random.normal(size=40) * noise for noise in (0.5, 2.0))
    metric = OwnMetric(record())
    resampling = Resampling(resamples=2000, seed=0)

    whole = interval(metric, statistics(own, wanted), resampling)
    assert whole.estimate == pytest.approx(np.corrcoef(own, wanted)[0, 1], abs=1e-12)
    draws = np.random.default_rng(5).integers(40, size=(2000, 40))
    drawn = [np.corrcoef(own[rows], wanted[rows])[0, 1] for rows in draws]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (whole.low, whole.high) == pytest.approx((low, high), abs=0.03)

    found = paired_difference(
        metric, statistics(own, wanted), statistics(other, wanted), 0.05, resampling
    )
    left = [np.delete(np.arange(40), row) for row in range(40)]
    differences = [
        np.corrcoef(own[rows], wanted[rows])[0, 1]
        - np.corrcoef(other[rows], wanted[rows])[0, 1]
        for rows in left
    ]
    error = np.sqrt(39 * np.var(differences))
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert found.low > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a / b", 1.5),
        ("-a + 2 * b - 1", 0.0),
        ("+a ** -1", 1 / 3),
        ("abs(b - a) * exp(0) + log(1)", 1.0),
        ("min(a, b, 1) + max(a, b) + sqrt(4)", 6.0),
        ("0.25", 0.25),
    ],
)
def test_a_formula_gives_what_arithmetic_gives(text: str, expected: float) -> None:
    sums = np.array([[3.0, 2.0], [3.0, 2.0]])
    found = evaluate_formula(text, ("a", "b"), sums)
    assert found.shape == (2,)
    assert found == pytest.approx(expected)


def test_a_formula_without_a_number_gives_none() -> None:
    sums = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    found = evaluate_formula("log(a) / b", ("a", "b"), sums)
    assert not np.isfinite(found).any()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a +", "is no arithmetic"),
        ("a\0", "is no arithmetic"),
        ("(" * 30_000 + "a", "is no arithmetic"),
        ("c / a", "c is none of its statistics, a, b"),
        ("__import__('os')", "__import__ is none of the functions"),
        ("a.real", "'a.real' is no part of a formula"),
        ("a[0]", "is no part of a formula"),
        ("a if b else 1", "is no part of a formula"),
        ("a // b", "is no part of a formula"),
        ("not a", "is no part of a formula"),
        ("True", "is no part of a formula"),
        ("'a'", "is no part of a formula"),
        ("1" + "0" * 400, "is no part of a formula"),
        ("1e16", "is no part of a formula"),
        ("sqrt(a, b)", "sqrt is given 2 numbers"),
        ("max(a)", "max is given 1 numbers"),
        ("max(a, b, key=a)", "max is none of the functions"),
        ("max(*a, b)", "is no part of a formula"),
        ("a" + " + a" * MOST_PARTS, "parts, over the"),
    ],
)
def test_what_is_no_arithmetic_is_no_formula(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_formula(text, ("a", "b"))


def test_as_many_parts_and_as_large_a_number_as_are_allowed_are_a_formula() -> None:
    longest = "a"
    while _parts(f"{longest} + 1") <= MOST_PARTS:
        longest += " + 1"
    while _parts(f"-{longest}") <= MOST_PARTS:
        longest = f"-{longest}"
    assert _parts(longest) == MOST_PARTS
    assert parse_formula(longest, ("a",))
    assert parse_formula("a + 1e15", ("a",))


def _parts(text: str) -> int:
    return len(list(ast.walk(ast.parse(text, mode="eval").body)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"statistics": ("n", "n"), "formula": "n"}, "have one name"),
        ({"statistics": ("log",), "formula": "log"}, "cannot be named log"),
        ({"formula": None}, "has no formula over them"),
        ({"statistics": ()}, "none of its statistics"),
        ({"formula": "open('/etc/passwd')"}, "none of the functions"),
    ],
)
def test_evidence_with_a_formula_that_is_none_is_not_read(
    changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        record(**changes)


def test_a_mean_is_recorded_as_it_was_before_there_were_formulas() -> None:
    mean = record(statistics=(), formula=None)
    assert not {"statistics", "formula"} & set(mean.model_dump())
    assert (mean.numbers, record().numbers) == (2, 6)
