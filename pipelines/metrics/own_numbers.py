"""The numbers of an own metric: of one row, and of corpora of rows. Of `own_child.py` alone.

A mean has two for a row: what counts, and how much the row weighs. A formula has one for each
statistic that it names.
"""

from typing import Any

import numpy as np

from pipelines.metrics.metric import FloatArray, ScoredRow
from pipelines.metrics.own_fault import Fault, is_number, show
from pipelines.metrics.own_formula import evaluate_formula

TOLERANCE = 1e-9
Numbers = tuple[float, ...]


def formula_of(metric: Any) -> tuple[str | None, tuple[str, ...]]:
    """The formula and the names of its statistics; None and no name where it is a mean."""
    formula = getattr(metric, "formula", None)
    if formula is None:
        return None, ()
    statistics = getattr(metric, "statistics", ())
    names = tuple(statistics)
    return formula, names


def count_row(metric: Any, row: ScoredRow) -> Numbers:
    """The numbers of a row; `Fault` where they are none that a score can be made of."""
    before = row.model_dump()
    answer = metric.row_statistics(row)
    # Frozen values can be changed by those who try: the number would be of another row.
    after = row.model_dump()
    if after != before:
        raise Fault("row_statistics changes the row that it is given")
    formula, names = formula_of(metric)
    _check_form(answer, names)
    floats = map(float, answer)
    numbers = tuple(floats)
    # What a formula makes of a single row says nothing: its scale is that of sums.
    if formula is None:
        counted, weight = numbers
        _check_mean(metric, counted, weight)
    return numbers


def check_corpora(metric: Any, counted: list[Numbers]) -> None:
    """A formula stays on its scale, and a `corpus` of the class gives what Assay computes."""
    formula, names = formula_of(metric)
    # Asked to describe itself, a metric is given no row.
    if not counted:
        return
    # The sums after each row: as many different corpora as there are rows.
    sums = np.cumsum(np.array(counted), axis=0)
    if formula is None:
        ours = _means(sums)
    else:
        ours = evaluate_formula(formula, names, sums)
        _check_formula(metric, ours)
    if hasattr(metric, "corpus"):
        _check_same(metric, sums, ours)


def _check_form(answer: Any, names: tuple[str, ...]) -> None:
    wanted = "two numbers, what counts and how much the row weighs"
    count = 2
    if names:
        count = len(names)
        wanted = f"{count} numbers, {', '.join(names)}"
    # A text of two letters and a set of two numbers have a length of two as well.
    if not isinstance(answer, tuple | list) or len(answer) != count:
        raise Fault(f"row_statistics gives {show(answer)}: it has to give {wanted}")
    for entry in answer:
        if is_number(entry):
            continue
        wrong = show(entry)
        shown = show(answer)
        raise Fault(f"row_statistics gives {shown}, where {wrong} is no finite number")


def _check_mean(metric: Any, counted: float, weight: float) -> None:
    if weight < 0:
        raise Fault(f"row_statistics gives the weight {weight:g}, which is below 0")
    # Without a worst score the scale only limits margins.
    if metric.worst is None:
        return
    low, high = _scale_of(metric)
    # A share such as 0.1 + 0.2 is a little off in binary.
    slack = TOLERANCE * metric.scale
    lowest = low * weight
    highest = high * weight
    least = lowest - slack
    most = highest + slack
    # Asked as a pass.
    if least <= counted <= most:
        return
    score = f"{counted:g} of a weight of {weight:g}"
    raise Fault(
        f"row_statistics gives {score}, which is outside of its scale, "
        f"{low:g} to {high:g}"
    )


def _check_formula(metric: Any, scores: FloatArray) -> None:
    """The formula of all rows is a number, and of no corpus one outside of the scale."""
    last = float(scores[-1])
    # Of few rows there may be none, as 0 / 0: resamples are as many rows as all of them.
    if not np.isfinite(last):
        raise Fault(f"its formula gives {last:g} for all rows together")
    if metric.worst is None:
        return
    low, high = _scale_of(metric)
    slack = TOLERANCE * metric.scale
    for score in scores[np.isfinite(scores)]:
        if low - slack <= score <= high + slack:
            continue
        raise Fault(
            f"its formula gives {score:g}, which is outside of its scale, {low:g} to {high:g}"
        )


def _check_same(metric: Any, sums: FloatArray, ours: FloatArray) -> None:
    # Where nothing weighs there is no mean, whatever another formula would say.
    is_there = np.isfinite(ours)
    # A copy, so that a formula that works in place cannot agree with itself.
    theirs = metric.corpus(sums[is_there].copy())
    expected = ours[is_there]
    # Compared first: numpy would stretch one number over all the sums.
    has_same_shape = np.shape(theirs) == expected.shape
    if has_same_shape and np.allclose(theirs, expected, rtol=TOLERANCE, atol=TOLERANCE):
        return
    if getattr(metric, "formula", None) is not None:
        raise Fault("its corpus is not its formula: take corpus out")
    raise Fault(
        "its corpus is not the first sum over the second, which is what Assay can compute again "
        "without the file: take corpus out, or write it as a formula over named statistics"
    )


def _means(sums: FloatArray) -> FloatArray:
    weights = sums[:, 1]
    counted = sums[:, 0]
    is_there = weights > 0
    divisors = np.where(is_there, weights, np.nan)
    means = counted / divisors
    return np.asarray(means)


def _scale_of(metric: Any) -> tuple[float, float]:
    """The lowest and the highest score."""
    worst = metric.worst
    scale = metric.scale
    if metric.higher_is_better:
        best = worst + scale
        return worst, best
    best = worst - scale
    return best, worst
