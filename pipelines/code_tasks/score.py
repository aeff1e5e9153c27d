"""pass@k of one system, counted with an interval over tasks."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from core.errors import IncompleteGeneration
from core.value import Value
from pipelines.code_tasks.ask import CodeAnswer, CodeSettings, sign_settings
from pipelines.code_tasks.pass_at_k import metric_of_tasks, pass_at_k
from pipelines.metrics import FloatArray
from pipelines.statistics.bootstrap import interval, paired_difference
from pipelines.values.dataset import Interval


class PassAt(Value):
    """pass@k of one system, 0 to 1."""

    k: int
    interval: Interval


class CodeScore(Value):
    """HumanEval of one system."""

    system: str
    adapter_sha256: str | None
    tasks: int
    samples: int
    pass_at: tuple[PassAt, ...]
    signature: str = Field(description="How it was computed.")


class CodeDifference(Value):
    """How much better one system is than another on the same tasks, with one-sided 95 % bounds."""

    k: int
    system: str
    other: str
    difference: float
    low: float
    high: float


def score_answers(
    answers: Sequence[CodeAnswer],
    settings: CodeSettings,
    *,
    is_chat: bool,
    adapter_sha256: str | None,
) -> CodeScore:
    """pass@k of one system's answers, for each k of the settings."""
    pass_at = []
    for k in settings.k:
        sums = sums_by_task(answers, settings.samples, k)
        found = interval(metric_of_tasks(), sums, settings.resampling)
        pass_at.append(PassAt(k=k, interval=found))
    return CodeScore(
        system=answers[0].system,
        adapter_sha256=adapter_sha256,
        tasks=len(sums),
        samples=settings.samples,
        pass_at=tuple(pass_at),
        signature=sign_settings(settings, is_chat=is_chat),
    )


def compare_answers(
    own: Sequence[CodeAnswer], other: Sequence[CodeAnswer], settings: CodeSettings
) -> tuple[CodeDifference, ...]:
    """How much better `own` is than `other`, for each k."""
    differences = []
    for k in settings.k:
        found = paired_difference(
            metric_of_tasks(),
            sums_by_task(own, settings.samples, k),
            sums_by_task(other, settings.samples, k),
            0.05,
            settings.resampling,
        )
        differences.append(
            CodeDifference(
                k=k,
                system=own[0].system,
                other=other[0].system,
                difference=found.difference,
                low=found.low,
                high=found.high,
            )
        )
    return tuple(differences)


def sums_by_task(answers: Sequence[CodeAnswer], samples: int, k: int) -> FloatArray:
    """Each task's pass@k and a one, shape (tasks, 2), in the order of the tasks' names.

    `IncompleteGeneration` where a task has not as many answers as samples were asked for.
    """
    by_task: dict[str, list[bool]] = {}
    for answer in answers:
        by_task.setdefault(answer.task_id, []).append(answer.passed)
    sums = []
    # Sorted, so that two systems are compared task by task, whatever order they were asked in.
    for name, passed in sorted(by_task.items()):
        if len(passed) != samples:
            raise IncompleteGeneration(
                f"{name} has {len(passed)} of {samples} answers. Run again."
            )
        share = pass_at_k(samples, sum(passed), k)
        # How much a task counts: as much as every other.
        weight = 1.0
        sums.append((share, weight))
    return np.array(sums, dtype=np.float64)
