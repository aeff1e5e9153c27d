"""How the groups of a sensitive feature differ. The only module that imports fairlearn.

fairlearn gives the rates and their differences; intervals are drawn here, over clusters, since its own bootstrap
resamples rows and takes half a minute for 400 of them. It is only given zeros and ones: other labels make it answer 0.0.
"""

import re
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from core.errors import ParameterError
from core.value import Value
from pipelines.values.dataset import BiasReport, GroupRate, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BATCH = 100

Method = Literal["declared feature", "name templates", "not applicable"]
Quantity = Literal["rate", "score", "refused"]
QUANTITIES: tuple[Quantity, ...] = ("rate", "score", "refused")
"""Selection rate, mean score, share of refusals."""


class OutputObservation(Value):
    """One row: its group of the sensitive feature, its cluster, its score, and whether it is favourable."""

    group: str
    cluster: str
    score: float
    favourable: bool
    refused: bool = False


class BiasSettings(Value):
    """The smallest group that anything is said about, and how intervals are drawn."""

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
    """Compare groups by a system's answers, refusals included: `metric` names what each observation's score is."""
    return rates_by_group(observations, "outputs", method, feature, metric, settings)


def favourable(completions: Sequence[str], pattern: str | None) -> list[bool]:
    """Which completions are favourable: those that match the pattern, or that are longer than the median."""
    if pattern is not None:
        return [_compiled(pattern).search(text) is not None for text in completions]
    lengths = [len(text) for text in completions]
    median = statistics.median(lengths) if lengths else 0
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
    counted = [
        observation for observation in observations if observation.group in sufficient
    ]
    means = _by_group(counted)
    answers = subject == "outputs"
    spread = _Spread(counted, settings) if len(means) > 1 else None
    return BiasReport(
        subject=subject,
        method=method,
        feature=feature,
        metric=metric,
        min_group_size=settings.min_group_size,
        groups=tuple(
            _rate(group, sizes[group], means.get(group), answers=answers)
            for group in sorted(sizes)
        ),
        insufficient=tuple(sorted(set(sizes) - sufficient)),
        demographic_parity_difference=spread.interval("rate", "difference")
        if spread
        else None,
        demographic_parity_ratio=spread.interval("rate", "ratio") if spread else None,
        score_difference=spread.interval("score", "difference") if spread else None,
        refusal_difference=spread.interval("refused", "difference")
        if spread and answers
        else None,
    )


def _rate(
    group: str, size: int, means: dict[Quantity, float] | None, *, answers: bool
) -> GroupRate:
    if means is None:
        return GroupRate(group=group, n=size, rate=None, score=None)
    return GroupRate(
        group=group,
        n=size,
        rate=means["rate"],
        score=means["score"],
        refused=means["refused"] if answers else None,
    )


def _by_group(
    observations: Sequence[OutputObservation],
) -> dict[str, dict[Quantity, float]]:
    """Selection rate, mean score and share of refusals of each group."""
    if not observations:
        return {}
    by_group = _metric_frame(observations).by_group
    return {
        str(group): {name: float(means[name]) for name in QUANTITIES}
        for group, means in by_group.iterrows()
    }


def _metric_frame(observations: Sequence[OutputObservation]) -> Any:
    from fairlearn.metrics import MetricFrame, selection_rate

    return MetricFrame(
        metrics={"rate": selection_rate, "score": _mean_score, "refused": _share},
        y_true=[observation.score for observation in observations],
        y_pred=[int(observation.favourable) for observation in observations],
        sample_params={
            "refused": {
                "marks": [float(observation.refused) for observation in observations]
            }
        },
        sensitive_features=[observation.group for observation in observations],
    )


def _mean_score(scores: "Floats", _marks: "Floats") -> float:
    return float(sum(scores) / len(scores))


def _share(_scores: "Floats", _marks: "Floats", *, marks: "Floats") -> float:
    return float(sum(marks) / len(marks))


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

        compared = (
            self.frame.difference()
            if comparison == "difference"
            else self.frame.ratio()
        )
        estimate = float(compared[quantity])
        drawn = COMPARISONS[comparison](self.means[quantity])
        drawn = drawn[np.isfinite(drawn)]
        if not np.isfinite(estimate) or not len(drawn):
            return None
        low, high = np.percentile(drawn, [2.5, 97.5])
        return Interval(
            estimate=estimate,
            low=min(float(low), estimate),
            high=max(float(high), estimate),
        )


def _resampled_means(
    observations: Sequence[OutputObservation], settings: BiasSettings
) -> dict[str, "Floats"]:
    """Resamples by groups: the mean of each quantity, NaN where a resample holds nothing of a group."""
    import numpy as np

    counts, *sums = _totals(observations)
    clusters = len(counts)
    generator = np.random.default_rng(settings.seed)
    means: list[list[Floats]] = [[] for _ in QUANTITIES]
    for start in range(0, settings.resamples, BATCH):
        weights = generator.multinomial(
            clusters,
            np.full(clusters, 1 / clusters),
            size=min(BATCH, settings.resamples - start),
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            for place, sum_of in enumerate(sums):
                means[place].append((weights @ sum_of) / (weights @ counts))
    return {
        name: np.concatenate(drawn)
        for name, drawn in zip(QUANTITIES, means, strict=True)
    }


def _totals(observations: Sequence[OutputObservation]) -> tuple["Floats", ...]:
    """Clusters by groups: rows, then the sum of each quantity."""
    import numpy as np

    clusters = {
        name: index
        for index, name in enumerate(
            sorted({observation.cluster for observation in observations})
        )
    }
    groups = {
        name: index
        for index, name in enumerate(
            sorted({observation.group for observation in observations})
        )
    }
    totals = np.zeros((1 + len(QUANTITIES), len(clusters), len(groups)))
    for observation in observations:
        place = totals[:, clusters[observation.cluster], groups[observation.group]]
        place += (1, observation.favourable, observation.score, observation.refused)
    return tuple(totals)


def _difference(means: "Floats") -> "Floats":
    import numpy as np

    return np.asarray(np.nanmax(means, axis=1) - np.nanmin(means, axis=1))


def _ratio(means: "Floats") -> "Floats":
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nanmin(means, axis=1) / np.nanmax(means, axis=1))


COMPARISONS: dict[str, Callable[["Floats"], "Floats"]] = {
    "difference": _difference,
    "ratio": _ratio,
}


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ParameterError(
            f"bias.favourable_pattern is not a regular expression ({error}). Mend it, or set it to null."
        ) from error
