"""Scores and their intervals, computed from the evidence alone."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from core.errors import IncompleteEvidence
from pipelines.metrics import Metric
from pipelines.scoring.evidence_file import (
    Evidence,
    EvidenceRow,
    Statistics,
    evidence_of,
)
from pipelines.statistics.bootstrap import interval, sums_by_group
from pipelines.values.evidence import MetricScore, Resampling, System, SystemScore


def with_statistics(rows: Sequence[EvidenceRow], metrics: Sequence[Metric]) -> Evidence:
    """Fill in each metric's statistics and, where a row names a control prompt, those against that prompt's references."""
    references = {row.row.prompt_id: row.row.references for row in rows}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return evidence_of(
            pool.map(lambda row: _filled(row, metrics, references), rows)
        )


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
    """One metric of one system."""
    sums = sums_by_group(evidence.clusters, evidence.statistics(system, metric.name))
    return MetricScore(
        name=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        interval=interval(metric, sums, resampling),
        n=len(evidence.groups),
        clusters=len(sums),
        signature=metric.signature([row.row for row in evidence.rows[system]]),
    )


def _filled(
    row: EvidenceRow, metrics: Sequence[Metric], references: dict[str, tuple[str, ...]]
) -> EvidenceRow:
    control: Statistics = {}
    if row.control_prompt_id is not None:
        if row.control_prompt_id not in references:
            raise IncompleteEvidence(
                f"The control of prompt {row.row.prompt_id} is no prompt of the evidence. Run the score stage again."
            )
        swapped = row.row.model_copy(
            update={"references": references[row.control_prompt_id]}
        )
        control = {
            metric.name: metric.row_statistics(swapped)
            for metric in metrics
            if metric.compares_answers
        }
    return row.model_copy(
        update={
            "statistics": {
                metric.name: metric.row_statistics(row.row) for metric in metrics
            },
            "control": control,
        }
    )
