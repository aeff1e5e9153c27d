"""How the groups of a sensitive feature differ. The only module that imports fairlearn.

fairlearn gives the rates; gaps and their intervals are those of `group_gaps.py`, over clusters,
since its own bootstrap resamples rows. It is only given zeros and ones: other labels make it answer
0.0.
"""

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.errors import ParameterError
from core.value import Value
from pipelines.values.dataset import BiasReport, GroupRate, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipelines.statistics.group_gaps import Grouping

    Floats = NDArray[np.float64]

HIGHEST_SCORE = 100.0
"""Of a score of answers."""
Method = Literal["declared feature", "name templates", "not applicable"]
Quantity = Literal["rate", "score", "refused"]
# Selection rate, mean score, share of refusals.
QUANTITIES: tuple[Quantity, ...] = ("rate", "score", "refused")


class OutputObservation(Value):
    """One row: its sensitive group, its cluster, its score, and whether it is favourable."""

    group: str
    cluster: str
    # On the scale of the report's metric; a score of data is a length in characters.
    score: float
    favourable: bool
    refused: bool = False
    name: str | None = None
    """The person's name that was put into the prompt."""


class BiasSettings(Value):
    """The fewest rows of a group that is compared."""

    min_group_size: int


def output_bias(
    observations: Sequence[OutputObservation],
    method: Method,
    feature: str | None,
    metric: str,
    settings: BiasSettings,
) -> BiasReport:
    """Compare groups by a system's answers, refusals included.

    `metric` names what each observation's score is.
    """
    return rates_by_group(
        observations,
        "outputs",
        method,
        feature,
        metric,
        settings,
    )


def favourable(completions: Sequence[str], pattern: str | None) -> list[bool]:
    """Which completions match the pattern or, without one, are longer than the median.

    `ParameterError` where the pattern is not a regular expression.
    """
    if not completions:
        return []
    if pattern is not None:
        expression = _compile(pattern)
        return [expression.search(text) is not None for text in completions]
    # Without a pattern nothing says what is favourable; length at least differs between rows.
    lengths = [len(text) for text in completions]
    median = statistics.median(lengths)
    return [length > median for length in lengths]


def rates_by_group(
    observations: Sequence[OutputObservation],
    subject: Literal["data", "outputs"],
    method: Method,
    feature: str | None,
    metric: str,
    settings: BiasSettings,
) -> BiasReport:
    """Rates, scores and refusals of each group that is large enough, and how they differ."""
    sizes = Counter(observation.group for observation in observations)
    sufficient = {
        group for group, size in sizes.items() if size >= settings.min_group_size
    }
    compared = [
        observation for observation in observations if observation.group in sufficient
    ]
    means = _means_by_group(compared)
    # Refusals are answers: there are none in the data.
    has_answers = subject == "outputs"
    gaps = _gaps(compared) if len(means) > 1 else _NO_GAPS
    return BiasReport(
        subject=subject,
        method=method,
        feature=feature,
        metric=metric,
        min_group_size=settings.min_group_size,
        groups=tuple(
            _group_rate(group, sizes[group], means.get(group), has_answers=has_answers)
            for group in sorted(sizes)
        ),
        insufficient=tuple(sorted(set(sizes) - sufficient)),
        demographic_parity_difference=gaps.rate_difference,
        demographic_parity_ratio=gaps.rate_ratio,
        score_difference=gaps.score_difference,
        refusal_difference=gaps.refusal_difference if has_answers else None,
    )


@dataclass(frozen=True)
class _Gaps:
    """How the groups differ; None where there are fewer than two, or a ratio is not defined."""

    rate_difference: Interval | None
    rate_ratio: Interval | None
    score_difference: Interval | None
    refusal_difference: Interval | None


_NO_GAPS = _Gaps(None, None, None, None)


def _gaps(observations: Sequence[OutputObservation]) -> _Gaps:
    import numpy as np

    from pipelines.statistics.group_gaps import least_ratio, widest_gap

    grouping = _grouping(observations)
    favoured = np.array([float(each.favourable) for each in observations])
    scores = np.array([each.score for each in observations])
    refused = np.array([float(each.refused) for each in observations])
    # Of lengths the longest is the most; scores of answers go to 100.
    most = max(float(scores.max()), HIGHEST_SCORE)
    return _Gaps(
        rate_difference=widest_gap(favoured, grouping, most=1),
        rate_ratio=least_ratio(favoured, grouping),
        score_difference=widest_gap(scores, grouping, most),
        refusal_difference=widest_gap(refused, grouping, most=1),
    )


def _grouping(observations: Sequence[OutputObservation]) -> "Grouping":
    from pipelines.statistics.group_gaps import Grouping, number

    # A name that two groups have is another person's in each.
    persons = [(each.group, each.name or "") for each in observations]
    has_names = any(each.name is not None for each in observations)
    return Grouping(
        groups=number([each.group for each in observations]),
        clusters=number([each.cluster for each in observations]),
        names=number(persons) if has_names else None,
    )


def _group_rate(
    group: str, size: int, means: dict[Quantity, float] | None, *, has_answers: bool
) -> GroupRate:
    # Too few rows: a rate of them would be read as a finding.
    if means is None:
        return GroupRate(group=group, n=size, rate=None, score=None)
    return GroupRate(
        group=group,
        n=size,
        rate=means["rate"],
        score=means["score"],
        refused=means["refused"] if has_answers else None,
    )


def _means_by_group(
    observations: Sequence[OutputObservation],
) -> dict[str, dict[Quantity, float]]:
    """Selection rate, mean score and share of refusals of each group."""
    # fairlearn refuses an empty table.
    if not observations:
        return {}
    by_group = _metric_frame(observations).by_group
    return {
        str(group): {name: float(means[name]) for name in QUANTITIES}
        for group, means in by_group.iterrows()
    }


def _metric_frame(observations: Sequence[OutputObservation]) -> Any:
    from fairlearn.metrics import MetricFrame, selection_rate

    marks = [float(observation.refused) for observation in observations]
    return MetricFrame(
        metrics={
            "rate": selection_rate,
            "score": _mean_score,
            "refused": _share,
        },
        y_true=[observation.score for observation in observations],
        y_pred=[int(observation.favourable) for observation in observations],
        sample_params={"refused": {"marks": marks}},
        sensitive_features=[observation.group for observation in observations],
    )


# fairlearn calls a metric with y_true, y_pred and its own sample parameters.
def _mean_score(scores: "Floats", _marks: "Floats") -> float:
    total = sum(scores)
    return float(total / len(scores))


def _share(_scores: "Floats", _marks: "Floats", *, marks: "Floats") -> float:
    total = sum(marks)
    return float(total / len(marks))


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ParameterError(
            f"bias.favourable_pattern is not a regular expression ({error}). "
            "Fix it, or set it to null."
        ) from error
