"""A scorecard as metrics of an MLflow run, so that its pages set runs and versions side by side.

score.SYSTEM.METRIC    and .low, .high: the 95 % interval
better.METRIC.SYSTEM   and .low, .high: how much better the adapter is, at the policy's level
sealed.METRIC.SYSTEM   the same on the block that confirmed it
held_out.…             how many prompts, clusters and groups there were
"""

from collections.abc import Iterable, Iterator

from pipelines.gates.comparisons import OTHERS
from pipelines.values.dataset import DatasetVersion
from pipelines.values.evidence import Scorecard
from pipelines.values.reserve import Confirmation
from pipelines.values.verdict import Comparison

_CONTROL = "control"
"""MLflow takes no apostrophe in a name, which that of the negative control has."""
HELD_OUT_GROUPS = "held_out.groups"
SEALED_GROUPS = "held_out.sealed_groups"


def score_metrics(
    scorecard: Scorecard, comparisons: Iterable[Comparison]
) -> dict[str, float]:
    """Every score and every difference with its bounds, by the names above."""
    metrics = {
        "held_out.prompts": float(scorecard.prompts),
        "held_out.clusters": float(scorecard.clusters),
    }
    metrics.update(_scores(scorecard))
    # Of the verdict, and not computed anew: a page must not contradict it.
    metrics.update(_differences("better", comparisons))
    return metrics


def confirmation_metrics(confirmation: Confirmation | None) -> dict[str, float]:
    """What the opened block showed; nothing where none was opened."""
    if confirmation is None or confirmation.comparison is None:
        return {}
    return dict(_differences("sealed", [confirmation.comparison]))


def group_metrics(dataset: DatasetVersion) -> dict[str, float]:
    """How many groups judge, and how many are sealed: their growth says when there are enough."""
    # Groups and not rows: a block is cut by groups.
    counts = dataset.groups
    metrics = {HELD_OUT_GROUPS: float(counts.get("held_out", 0))}
    # Runs from before reserves have no such split.
    if "reserve" in counts:
        metrics[SEALED_GROUPS] = float(counts["reserve"])
    return metrics


def _scores(scorecard: Scorecard) -> Iterator[tuple[str, float]]:
    for system in scorecard.systems:
        for metric in system.metrics:
            # A number would be read as one that means something.
            if metric.inapplicable is not None:
                continue
            interval = metric.interval
            whose = system.system
            what = metric.name
            name = f"score.{whose}.{what}"
            low = f"{name}.low"
            high = f"{name}.high"
            yield name, interval.estimate
            yield low, interval.low
            yield high, interval.high


def _differences(
    kind: str, comparisons: Iterable[Comparison]
) -> Iterator[tuple[str, float]]:
    for each in comparisons:
        against: str = each.against
        if against == OTHERS:
            against = _CONTROL
        name = f"{kind}.{each.metric}.{against}"
        low = f"{name}.low"
        high = f"{name}.high"
        yield name, each.difference
        yield low, each.low
        yield high, each.high
