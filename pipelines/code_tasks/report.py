"""`humaneval_pass_at_k` of every system, computed from the results of a run and nothing else."""

from collections.abc import Iterator

from core.errors import IncompleteEvidence
from pipelines.code_tasks.pass_at_k import pass_at_k
from pipelines.statistics.cluster_means import bounded_mean
from pipelines.values.dataset import Interval
from pipelines.values.humaneval import (
    HumanEvalAnswers,
    HumanEvalReport,
    PassDifference,
    PassShare,
)
from pipelines.values.safety import ProbedSystem

Shares = dict[ProbedSystem, list[float]]
"""Each task's pass@k, in the order of the tasks, by system."""


def report_humaneval(answers: HumanEvalAnswers) -> HumanEvalReport:
    """pass@k with intervals over tasks, and the adapter's differences; a task is a cluster.

    `IncompleteEvidence` where a system has not each sample of each task once.
    """
    report = HumanEvalReport(
        tasks=len(answers.tasks),
        samples=answers.samples,
        k=answers.k,
        is_complete=answers.is_complete,
        signature=answers.signature,
        unavailable=answers.unavailable,
    )
    # Nothing was run: there is nothing to count, and no zero is made up.
    if answers.unavailable is not None:
        return report
    # Without the two there is nothing to compare.
    if not {"adapter", "base"} <= set(answers.systems):
        raise IncompleteEvidence(
            "HumanEval was not answered by adapter and base. Run the generate stage again."
        )
    passed = {system: _count(answers, system) for system in answers.systems}
    by_k = {k: _shares(passed, answers.samples, k) for k in answers.k}
    return report.model_copy(
        update={
            "shares": tuple(_intervals(by_k)),
            "differences": tuple(_differences(by_k)),
        }
    )


def _count(answers: HumanEvalAnswers, system: ProbedSystem) -> list[int]:
    """How many samples of each task passed."""
    own = [result for result in answers.results if result.system == system]
    found = sorted((result.task_id, result.sample) for result in own)
    expected = sorted(
        (task, sample) for task in answers.tasks for sample in range(answers.samples)
    )
    if found != expected or not expected:
        raise IncompleteEvidence(
            f"HumanEval of {system} has {len(found)} answers, and not each of "
            f"{answers.samples} samples of {len(answers.tasks)} tasks once. "
            "Run the generate stage again."
        )
    # A task that nothing passed counts with zero.
    passed = dict.fromkeys(answers.tasks, 0)
    for result in own:
        passed[result.task_id] += result.passed
    return list(passed.values())


def _shares(passed: dict[ProbedSystem, list[int]], samples: int, k: int) -> Shares:
    return {
        system: [pass_at_k(samples, count, k) for count in counts]
        for system, counts in passed.items()
    }


def _intervals(by_k: dict[int, Shares]) -> Iterator[PassShare]:
    for k, shares in by_k.items():
        for system, tasks in shares.items():
            bounded = bounded_mean(tasks)
            # A share has no value under zero.
            low = max(0.0, bounded.low)
            interval = Interval(
                estimate=bounded.estimate,
                low=low,
                high=bounded.high,
            )
            yield PassShare(system=system, k=k, interval=interval)


def _differences(by_k: dict[int, Shares]) -> Iterator[PassDifference]:
    for k, shares in by_k.items():
        own = shares["adapter"]
        for against, others in shares.items():
            if against == "adapter":
                continue
            pairs = zip(own, others, strict=True)
            gains = [share - other for share, other in pairs]
            difference = bounded_mean(gains)
            yield PassDifference(
                against=against,
                k=k,
                difference=difference,
            )
