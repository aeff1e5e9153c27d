"""pass@k: how likely one of k answers is to pass, without bias.

Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1: of n answers to a
task, c pass, and pass@k is the mean over tasks of 1 - C(n - c, k) / C(n, k).
"""

from math import comb
from typing import cast

from core.errors import ParameterError
from pipelines.metrics import FloatArray, Metric

NAME = "humaneval_pass_at_k"


class PassAtK:
    """The mean of the tasks' own pass@k. A task is a cluster: its answers resemble each other."""

    name = NAME
    higher_is_better = True

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Sum of the tasks' pass@k over their number, from shape (..., 2)."""
        passed = sums[..., 0]
        tasks = sums[..., 1]
        return passed / tasks


def metric_of_tasks() -> Metric:
    """For the bootstrap, which asks for a name, a direction and a formula alone."""
    return cast("Metric", PassAtK())


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """How likely one of `k` answers passes, 0 to 1, where `passed` of `samples` did.

    `ParameterError` where there are fewer than `k` samples, or more passed than there were.
    """
    if not 0 < k <= samples:
        raise ParameterError(
            f"pass@{k} needs at least {k} samples a task, and at least 1; "
            f"there are {samples}. Raise --samples."
        )
    if not 0 <= passed <= samples:
        raise ParameterError(f"{passed} of {samples} samples cannot pass. Score again.")
    # Whole numbers first: a product of many ratios would round at every step.
    without = comb(samples - passed, k)
    draws = comb(samples, k)
    return 1 - without / draws
