"""Scores and their intervals, computed from the evidence alone."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from core.errors import IncompleteEvidence
from pipelines.metrics import Metric, ScoredRow, metric_named
from pipelines.metrics.label_f1 import for_references
from pipelines.metrics.needless import needless_settings
from pipelines.metrics.semantic_similarity import SemanticSimilarity
from pipelines.scoring.evidence_file import (
    Evidence,
    EvidenceRow,
    Statistics,
    evidence_of,
)
from pipelines.scoring.samples import (
    list_answers,
    mean_statistics,
    sampled_score,
    scores_of_samples,
)
from pipelines.scoring.signatures import signature_of
from pipelines.statistics.bootstrap import interval, sums_by_group
from pipelines.values.evidence import (
    MetricScore,
    Resampling,
    SampledScore,
    System,
    SystemScore,
)


def with_statistics(rows: Sequence[EvidenceRow], metrics: Sequence[Metric]) -> Evidence:
    """Evidence with each metric's statistics filled in.

    Where a row names a control prompt, also those against that prompt's references.
    `IncompleteEvidence` where the control prompt is unknown.
    """
    references = {row.row.prompt_id: row.row.references for row in rows}
    fitted = []
    for metric in metrics:
        own = _fit(metric, rows, references)
        fitted.append(own)

    def fill(row: EvidenceRow) -> EvidenceRow:
        return _fill(row, fitted, references)

    # Threads, since bash parses each answer in a process of its own.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        filled = pool.map(fill, rows)
        return evidence_of(filled)


def system_scores(
    evidence: Evidence, metrics: Sequence[Metric], resampling: Resampling
) -> tuple[SystemScore, ...]:
    """Every metric of every system with its interval, from the evidence alone."""
    return tuple(
        SystemScore(
            system=system,
            metrics=tuple(
                metric_score(evidence, system, metric, resampling) for metric in metrics
            ),
        )
        for system in evidence.rows
    )


def metric_score(
    evidence: Evidence, system: System, metric: Metric, resampling: Resampling
) -> MetricScore:
    """One metric of one system with its interval."""
    # Summed by cluster: the intervals resample clusters, not rows.
    statistics = evidence.statistics(system, metric.name)
    sums = sums_by_group(evidence.clusters, statistics)
    return MetricScore(
        name=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        interval=interval(metric, sums, resampling),
        n=len(evidence.groups),
        clusters=len(sums),
        signature=signature_of(evidence, metric, system),
        inapplicable=_inapplicable(evidence, metric),
        needless=_needless(evidence, metric),
        own=evidence.own_metric(metric.name),
        sampled=_sampled(evidence, system, metric, resampling),
    )


def _sampled(
    evidence: Evidence, system: System, metric: Metric, resampling: Resampling
) -> SampledScore | None:
    scores = [row.sample_scores.get(metric.name, ()) for row in evidence.rows[system]]
    return sampled_score(metric, scores, evidence.clusters, resampling)


def list_scored_rows(rows: Sequence[EvidenceRow]) -> list[ScoredRow]:
    """Everything that a metric counts: each row, and its answer with its control's references."""
    references = {row.row.prompt_id: row.row.references for row in rows}
    scored: list[ScoredRow] = []
    for row in rows:
        scored += list_answers(row.row)
        if row.control_prompt_id is not None:
            scored += list_answers(_swap(row, references))
    return scored


def _fit(
    metric: Metric,
    rows: Sequence[EvidenceRow],
    references: dict[str, tuple[str, ...]],
) -> Metric:
    """The metric as it counts these rows, once it has seen all of them."""
    if isinstance(metric, SemanticSimilarity):
        return SemanticSimilarity.of_rows(list_scored_rows(rows))
    return for_references(metric, references.values())


def _needless(evidence: Evidence, metric: Metric) -> str | None:
    # An own metric has no settings: what it would set is in its file.
    if evidence.own_metric(metric.name) is not None:
        return None
    return needless_settings(metric, metric_named(metric.name), evidence.references)


def _inapplicable(evidence: Evidence, metric: Metric) -> str | None:
    # A verdict on older evidence was reached when every metric judged, and must be found again.
    if evidence.settings is None:
        return None
    return metric.inapplicable(evidence.references)


def _fill(
    row: EvidenceRow, metrics: Sequence[Metric], references: dict[str, tuple[str, ...]]
) -> EvidenceRow:
    control = _control_statistics(row, metrics, references)
    statistics = {metric.name: mean_statistics(metric, row.row) for metric in metrics}
    return row.model_copy(
        update={
            "statistics": statistics,
            "control": control,
            "sample_scores": _sample_scores(row, metrics),
        }
    )


def _sample_scores(row: EvidenceRow, metrics: Sequence[Metric]) -> Statistics:
    """By metric, the score of each of the row's samples; empty where answers are greedy."""
    scores = {metric.name: scores_of_samples(metric, row.row) for metric in metrics}
    return {name: numbers for name, numbers in scores.items() if numbers}


def _control_statistics(
    row: EvidenceRow, metrics: Sequence[Metric], references: dict[str, tuple[str, ...]]
) -> Statistics:
    """Statistics against the references of the row's control prompt; empty where it has none."""
    if row.control_prompt_id is None:
        return {}
    swapped = _swap(row, references)
    # A metric that compares no answers would give the same number again.
    return {
        metric.name: mean_statistics(metric, swapped)
        for metric in metrics
        if metric.compares_answers
    }


def _swap(row: EvidenceRow, references: dict[str, tuple[str, ...]]) -> ScoredRow:
    """The row's answer beside the references of its control prompt."""
    control_id = row.control_prompt_id
    if control_id is None or control_id not in references:
        raise IncompleteEvidence(
            f"The control of prompt {row.row.prompt_id} is no prompt of the evidence. "
            "Run the score stage again."
        )
    return row.row.model_copy(update={"references": references[control_id]})
