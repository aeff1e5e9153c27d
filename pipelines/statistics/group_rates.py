"""How the groups of a sensitive feature differ. The only module that imports fairlearn.

fairlearn gives the rates and their differences; intervals are drawn here, over clusters, since its
own bootstrap resamples rows and takes half a minute for 400 of them. It is only given zeros and
ones: other labels make it answer 0.0.
"""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.errors import ParameterError
from core.value import Value
from pipelines.values.dataset import BiasReport, GroupRate, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Resamples in memory at a time; the draws are the same whatever it is.
BATCH = 100

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


class BiasSettings(Value):
    """The fewest rows of a group that is compared, and how intervals are drawn."""

    min_group_size: int
    resamples: int
    seed: int


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
    gaps = _gaps(compared, settings) if len(means) > 1 else _NO_GAPS
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


def _gaps(observations: Sequence[OutputObservation], settings: BiasSettings) -> _Gaps:
    spread = _Spread(observations, settings)
    return _Gaps(
        rate_difference=spread.interval("rate", "difference"),
        rate_ratio=spread.interval("rate", "ratio"),
        score_difference=spread.interval("score", "difference"),
        refusal_difference=spread.interval("refused", "difference"),
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


class _Spread:
    """Differences and ratios between groups, with percentile intervals from resampled clusters."""

    def __init__(
        self, observations: Sequence[OutputObservation], settings: BiasSettings
    ) -> None:
        self.frame = _metric_frame(observations)
        self.means = _resampled_means(observations, settings)

    def interval(
        self, quantity: Quantity, comparison: Literal["difference", "ratio"]
    ) -> Interval | None:
        """None where it is not defined: a ratio of rates that are all zero."""
        import numpy as np

        is_difference = comparison == "difference"
        compared = self.frame.difference() if is_difference else self.frame.ratio()
        estimate = float(compared[quantity])
        drawn = COMPARISONS[comparison](self.means[quantity])
        # A resample without rows of a group has no gap.
        drawn = drawn[np.isfinite(drawn)]
        if not np.isfinite(estimate) or not len(drawn):
            return None
        low, high = np.percentile(drawn, [2.5, 97.5])
        # Widened to hold the estimate, never narrowed.
        return Interval(
            estimate=estimate,
            low=min(float(low), estimate),
            high=max(float(high), estimate),
        )


def _resampled_means(
    observations: Sequence[OutputObservation], settings: BiasSettings
) -> dict[str, "Floats"]:
    """The mean of each quantity, shape (resamples, groups).

    NaN where a resample holds no row of a group.
    """
    import numpy as np

    counts, *sums = _totals(observations)
    clusters = len(counts)
    # Drawing as many clusters as there are, each equally likely, with replacement.
    equal_shares = np.full(clusters, 1 / clusters)
    generator = np.random.default_rng(settings.seed)
    means: list[list[Floats]] = [[] for _ in QUANTITIES]
    for start in range(0, settings.resamples, BATCH):
        resamples = min(BATCH, settings.resamples - start)
        # How often each resample draws each cluster, shape (resamples, clusters).
        weights = generator.multinomial(clusters, equal_shares, size=resamples)
        # 0 rows of a group divide 0 by 0.
        with np.errstate(invalid="ignore", divide="ignore"):
            for place, sum_of in enumerate(sums):
                means[place].append((weights @ sum_of) / (weights @ counts))
    return {
        name: np.concatenate(drawn)
        for name, drawn in zip(QUANTITIES, means, strict=True)
    }


def _totals(observations: Sequence[OutputObservation]) -> tuple["Floats", ...]:
    """Rows, then the sum of each quantity; each of shape (clusters, groups)."""
    import numpy as np

    clusters = _places(observation.cluster for observation in observations)
    groups = _places(observation.group for observation in observations)
    shape = (1 + len(QUANTITIES), len(clusters), len(groups))
    totals = np.zeros(shape)
    for observation in observations:
        cluster = clusters[observation.cluster]
        group = groups[observation.group]
        # In the order of QUANTITIES, after the row itself.
        totals[:, cluster, group] += (
            1,
            observation.favourable,
            observation.score,
            observation.refused,
        )
    return tuple(totals)


def _places(names: Iterable[str]) -> dict[str, int]:
    """The place of each distinct name in sorted order."""
    distinct = set(names)
    in_order = sorted(distinct)
    return {name: index for index, name in enumerate(in_order)}


def _difference(means: "Floats") -> "Floats":
    import numpy as np

    highest = np.nanmax(means, axis=1)
    lowest = np.nanmin(means, axis=1)
    return np.asarray(highest - lowest)


def _ratio(means: "Floats") -> "Floats":
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        highest = np.nanmax(means, axis=1)
        lowest = np.nanmin(means, axis=1)
        return np.asarray(lowest / highest)


# On resampled means, shape (resamples, groups); fairlearn compares the observed ones.
COMPARISONS: dict[str, Callable[["Floats"], "Floats"]] = {
    "difference": _difference,
    "ratio": _ratio,
}


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ParameterError(
            f"bias.favourable_pattern is not a regular expression ({error}). "
            "Fix it, or set it to null."
        ) from error
