"""From evidence to comparisons: the adapter against each other system, and against references of other prompts."""

from collections.abc import Iterator

from core.errors import IncompleteEvidence
from pipelines.gates.policy import ScreenPolicy
from pipelines.metrics import FloatArray, Metric, metric_named
from pipelines.scoring.evidence_file import Evidence
from pipelines.scoring.scores import system_scores
from pipelines.statistics.bootstrap import paired_difference, sums_by_group
from pipelines.values.evidence import Resampling, Scorecard, System
from pipelines.values.verdict import Comparison

OTHERS = "other prompts' references"
COMPARATORS: tuple[System, ...] = ("base", "few_shot", "champion", "anchor")
TOLERANCE = 1e-9
"""Relative: the same sums in another order may differ in their last digits."""


def compare(evidence: Evidence, policy: ScreenPolicy) -> tuple[Comparison, ...]:
    """The primary metric and every guardrail against each system that was scored; what is not comparable is left out."""
    if "adapter" not in evidence.rows:
        raise IncompleteEvidence(
            "The evidence holds no rows of the adapter. Run the score stage again."
        )
    return (*_with_systems(evidence, policy), *_with_other_references(evidence, policy))


def score_differences(scorecard: Scorecard, evidence: Evidence) -> tuple[str, ...]:
    """What the scorecard says and the evidence does not: empty when every number follows from the evidence."""
    metrics = [metric_named(name) for name in evidence.metrics]
    found = system_scores(evidence, metrics, scorecard.resampling)
    counts = (
        (scorecard.prompts, scorecard.clusters),
        (len(evidence.groups), len(set(evidence.clusters))),
    )
    different_counts = (
        ()
        if counts[0] == counts[1]
        else (
            f"prompts and clusters: {counts[0]} in the scorecard, {counts[1]} in the evidence",
        )
    )
    return (
        *different_counts,
        *differing("systems", _plain(scorecard.systems), _plain(found)),
    )


def differing(name: str, stored: object, found: object) -> Iterator[str]:
    """Name each leaf of two JSON documents that differs, numbers beyond the last digits only."""
    if (
        isinstance(stored, dict)
        and isinstance(found, dict)
        and stored.keys() == found.keys()
    ):
        for key in stored:
            yield from differing(f"{name}.{key}", stored[key], found[key])
    elif (
        isinstance(stored, list)
        and isinstance(found, list)
        and len(stored) == len(found)
    ):
        for place, (one, other) in enumerate(zip(stored, found, strict=True)):
            yield from differing(f"{name}[{place}]", one, other)
    elif not _same(stored, found):
        yield f"{name}: {_short(stored)} stored, {_short(found)} recomputed"


def _with_systems(evidence: Evidence, policy: ScreenPolicy) -> Iterator[Comparison]:
    asked = dict.fromkeys(
        [policy.primary, *(guardrail.metric for guardrail in policy.guardrails)]
    )
    for metric in (metric_named(name) for name in asked if name in evidence.metrics):
        for system in (system for system in COMPARATORS if system in evidence.rows):
            if _signature(evidence, metric, "adapter") == _signature(
                evidence, metric, system
            ):
                yield _comparison(
                    evidence,
                    metric,
                    system,
                    evidence.statistics(system, metric.name),
                    policy,
                )


def _with_other_references(
    evidence: Evidence, policy: ScreenPolicy
) -> Iterator[Comparison]:
    if policy.control in evidence.rows["adapter"][0].control:
        yield _comparison(
            evidence,
            metric_named(policy.control),
            OTHERS,
            evidence.control(policy.control),
            policy,
        )


def _comparison(
    evidence: Evidence,
    metric: Metric,
    against: str,
    other: FloatArray,
    policy: ScreenPolicy,
) -> Comparison:
    clusters = evidence.clusters
    own = sums_by_group(clusters, evidence.statistics("adapter", metric.name))
    resampling = Resampling(resamples=policy.resamples, seed=policy.seed)
    found = paired_difference(
        metric, own, sums_by_group(clusters, other), policy.alpha, resampling
    )
    return Comparison.model_validate(
        {"metric": metric.name, "against": against, **found.model_dump()}
    )


def _signature(evidence: Evidence, metric: Metric, system: System) -> str:
    return metric.signature([row.row for row in evidence.rows[system]])


def _plain(systems: object) -> object:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(systems)


def _same(stored: object, found: object) -> bool:
    if isinstance(stored, float | int) and isinstance(found, float | int):
        return abs(stored - found) <= TOLERANCE * max(1.0, abs(stored), abs(found))
    return stored == found


def _short(document: object) -> str:
    text = repr(document)
    return text if len(text) <= 120 else f"{text[:117]}..."
