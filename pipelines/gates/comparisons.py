"""From evidence to comparisons: the adapter against each other system.

It is also compared with the references of other prompts, the negative control.
"""

from collections.abc import Iterator

from core.errors import IncompleteEvidence
from pipelines.gates.policy import ScreenPolicy
from pipelines.metrics import FloatArray, Metric
from pipelines.scoring.evidence_file import Evidence
from pipelines.scoring.scores import system_scores
from pipelines.scoring.signatures import is_comparable
from pipelines.statistics.bootstrap import paired_difference, sums_by_group
from pipelines.values.evidence import Resampling, Scorecard, System
from pipelines.values.verdict import Comparison

OTHERS = "other prompts' references"
COMPARATORS: tuple[System, ...] = (
    "base",
    "few_shot",
    "retrieval",
    "champion",
    "anchor",
)
TOLERANCE = 1e-9
"""Relative: the same sums in another order may differ in their last digits."""


def compare(evidence: Evidence, policy: ScreenPolicy) -> tuple[Comparison, ...]:
    """The primary metric and every guardrail against each system that was scored.

    Scores that are not comparable are left out. `IncompleteEvidence` without rows of the adapter.
    """
    if "adapter" not in evidence.rows:
        raise IncompleteEvidence(
            "The evidence holds no rows of the adapter. Run the score stage again."
        )
    return (*_with_systems(evidence, policy), *_with_other_references(evidence, policy))


def score_differences(scorecard: Scorecard, evidence: Evidence) -> tuple[str, ...]:
    """Where a scorecard differs from its evidence; empty where every number follows from it."""
    metrics = [evidence.metric_named(name) for name in evidence.metrics]
    recomputed = system_scores(evidence, metrics, scorecard.resampling)
    sentences = []
    stored_counts = (scorecard.prompts, scorecard.clusters)
    counts = (len(evidence.groups), len(set(evidence.clusters)))
    if stored_counts != counts:
        sentences.append(
            f"prompts and clusters: {stored_counts} in the scorecard, {counts} in the evidence"
        )
    stored = _to_json(scorecard.systems)
    sentences += list_differences("systems", stored, _to_json(recomputed))
    return tuple(sentences)


def list_differences(name: str, stored: object, recomputed: object) -> Iterator[str]:
    """Name each leaf in which two JSON documents differ.

    Numbers may differ in their last digits.
    """
    stored_parts = _parts(stored)
    recomputed_parts = _parts(recomputed)
    has_same_parts = stored_parts.keys() == recomputed_parts.keys()
    if stored_parts and has_same_parts:
        for place, part in stored_parts.items():
            part_name = f"{name}{place}"
            yield from list_differences(part_name, part, recomputed_parts[place])
    elif not _is_same(stored, recomputed):
        stored_text = _shorten(stored)
        recomputed_text = _shorten(recomputed)
        yield f"{name}: {stored_text} stored, {recomputed_text} recomputed"


def compared_systems(
    evidence: Evidence, policy: ScreenPolicy
) -> Iterator[tuple[Metric, System]]:
    """Each judged metric with each system that it was scored on in the same way."""
    guardrails = [guardrail.metric for guardrail in policy.guardrails]
    # dict.fromkeys names each metric once and keeps the policy's order.
    costs = [] if policy.cheaper is None else [policy.cheaper.cost]
    names = dict.fromkeys([policy.primary, *guardrails, *costs])
    scored = [name for name in names if name in evidence.metrics]
    metrics = [evidence.metric_named(name) for name in scored]
    systems = [system for system in COMPARATORS if system in evidence.rows]
    for metric in metrics:
        for system in systems:
            # Perplexities of different tokenizers, for instance, are not.
            if is_comparable(evidence, metric, system):
                yield metric, system


def _with_systems(evidence: Evidence, policy: ScreenPolicy) -> Iterator[Comparison]:
    for metric, system in compared_systems(evidence, policy):
        other = evidence.statistics(system, metric.name)
        yield _comparison(evidence, metric, system, other, policy)


def _with_other_references(
    evidence: Evidence, policy: ScreenPolicy
) -> Iterator[Comparison]:
    # Every row of the adapter has the same metrics, or `control` raises.
    first_row = evidence.rows["adapter"][0]
    if policy.control in first_row.control:
        metric = evidence.metric_named(policy.control)
        other = evidence.control(policy.control)
        yield _comparison(evidence, metric, OTHERS, other, policy)


def _comparison(
    evidence: Evidence,
    metric: Metric,
    against: str,
    other: FloatArray,
    policy: ScreenPolicy,
) -> Comparison:
    clusters = evidence.clusters
    own = evidence.statistics("adapter", metric.name)
    resampling = Resampling(resamples=policy.resamples, seed=policy.seed)
    difference = paired_difference(
        metric,
        sums_by_group(clusters, own),
        sums_by_group(clusters, other),
        policy.alpha,
        resampling,
    )
    document = {
        "metric": metric.name,
        "against": against,
        **difference.model_dump(),
    }
    return Comparison.model_validate(document)


def _to_json(systems: object) -> object:
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(systems)


def _parts(document: object) -> dict[str, object]:
    """The parts of an object or a list, by the way to them; none of a number or a text."""
    if isinstance(document, dict):
        return {f".{key}": part for key, part in document.items()}
    if isinstance(document, list):
        return {f"[{place}]": part for place, part in enumerate(document)}
    return {}


def _is_same(stored: object, recomputed: object) -> bool:
    if isinstance(stored, float | int) and isinstance(recomputed, float | int):
        difference = abs(stored - recomputed)
        scale = max(1.0, abs(stored), abs(recomputed))
        # Asked as a pass: a NaN is not the same as anything.
        return difference <= TOLERANCE * scale
    return stored == recomputed


def _shorten(document: object) -> str:
    text = repr(document)
    if len(text) <= 120:
        return text
    return f"{text[:117]}..."
