"""How much better or worse the adapter answered each prompt than another system."""

from dataclasses import dataclass

import numpy as np

from pipelines.metrics import FloatArray
from pipelines.scoring.evidence_file import Evidence
from pipelines.values.evidence import System

REFERENCES: tuple[System, ...] = ("champion", "retrieval", "few_shot", "base")
"""Whose answers stand beside the adapter's: the first of them that was scored."""


@dataclass(frozen=True)
class PromptDifference:
    """One prompt; a positive difference is better, in the metric's unit."""

    prompt_id: str
    difference: float


def reference_system(evidence: Evidence) -> System | None:
    """The system to show beside the adapter; None where nothing else was scored."""
    for system in REFERENCES:
        if system in evidence.rows:
            return system
    return None


def prompt_differences(
    evidence: Evidence, metric: str, against: System
) -> tuple[PromptDifference, ...]:
    """The difference of each prompt, the worst first.

    A prompt that the metric gives no finite number for is left out: its score is counted over all
    prompts together.
    """
    own = _prompt_scores(evidence, metric, "adapter")
    other = _prompt_scores(evidence, metric, against)
    differences = own - other
    # Positive is better, also where a lower score is.
    if not evidence.metric_named(metric).higher_is_better:
        differences = -differences
    found = []
    for row, difference in zip(evidence.rows["adapter"], differences, strict=True):
        if np.isfinite(difference):
            prompt_id = row.row.prompt_id
            found.append(PromptDifference(prompt_id, float(difference)))
    # By the identifier where two are equal: the same evidence gives the same page.
    found.sort(key=lambda each: (each.difference, each.prompt_id))
    return tuple(found)


def _prompt_scores(evidence: Evidence, metric: str, system: System) -> FloatArray:
    """The metric of each prompt alone, shape (prompts,)."""
    statistics = evidence.statistics(system, metric)
    # One prompt may have no n-grams or a loss beyond what a float holds.
    with np.errstate(all="ignore"):
        scores = evidence.metric_named(metric).corpus(statistics)
    return np.asarray(scores, dtype=np.float64)
