"""How much better or worse the adapter answered each prompt than another system."""

from dataclasses import dataclass

import numpy as np

from pipelines.metrics import FloatArray
from pipelines.scoring.evidence_table import EvidenceTable
from pipelines.values.evidence import System

REFERENCES: tuple[System, ...] = ("champion", "retrieval", "few_shot", "base")
"""Whose answers stand beside the adapter's: the first of them that was scored."""


@dataclass(frozen=True)
class PromptDifference:
    """One prompt; a positive difference is better, in the metric's unit."""

    prompt_id: str
    difference: float


def reference_system(evidence: EvidenceTable) -> System | None:
    """The system to show beside the adapter; None where nothing else was scored."""
    for system in REFERENCES:
        if system in evidence.systems:
            return system
    return None


def prompt_differences(
    evidence: EvidenceTable, metric: str, against: System
) -> tuple[PromptDifference, ...]:
    """The difference of each prompt, the worst first.

    A prompt that the metric gives no finite number for is left out: its score is counted over all
    prompts together.
    """
    own = prompt_scores(evidence, metric, "adapter")
    other = prompt_scores(evidence, metric, against)
    differences = own - other
    # Positive is better, also where a lower score is.
    if not evidence.metric_named(metric).higher_is_better:
        differences = -differences
    found = []
    for prompt_id, difference in zip(evidence.prompt_ids, differences, strict=True):
        if np.isfinite(difference):
            found.append(PromptDifference(prompt_id, float(difference)))
    # By the identifier where two are equal: the same evidence gives the same page.
    found.sort(key=lambda each: (each.difference, each.prompt_id))
    return tuple(found)


def prompt_scores(evidence: EvidenceTable, metric: str, system: System) -> FloatArray:
    """The metric of each prompt alone, shape (prompts,)."""
    statistics = evidence.statistics(system, metric)
    definition = evidence.metric_named(metric)
    # One prompt may have no n-grams or a loss beyond what a float holds.
    with np.errstate(all="ignore"):
        scores = definition.corpus(statistics)
    return np.asarray(scores, dtype=np.float64)
