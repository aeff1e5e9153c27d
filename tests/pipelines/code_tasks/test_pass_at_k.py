"""pass@k equals its definition: the share of draws of k answers in which one passes."""

from itertools import combinations

import numpy as np
import pytest

from core.errors import ParameterError
from pipelines.code_tasks.pass_at_k import PassAtK, metric_of_tasks, pass_at_k


@pytest.mark.parametrize("samples", range(1, 7))
def test_it_is_the_share_of_draws_with_an_answer_that_passes(samples: int) -> None:
    for passed in range(samples + 1):
        answers = [number < passed for number in range(samples)]
        for k in range(1, samples + 1):
            draws = [any(draw) for draw in combinations(answers, k)]
            share = sum(draws) / len(draws)
            assert pass_at_k(samples, passed, k) == pytest.approx(share)


def test_many_samples_stay_exact() -> None:
    assert pass_at_k(1000, 1, 1) == pytest.approx(0.001)
    assert pass_at_k(1000, 1000, 100) == 1
    assert pass_at_k(1000, 0, 100) == 0


@pytest.mark.parametrize(
    ("samples", "passed", "k"), [(1, 0, 2), (1, 0, 0), (0, 0, 1), (2, 3, 1), (2, -1, 1)]
)
def test_what_cannot_be_is_refused(samples: int, passed: int, k: int) -> None:
    with pytest.raises(ParameterError):
        pass_at_k(samples, passed, k)


def test_a_corpus_is_the_mean_over_tasks() -> None:
    sums = np.array([[[1.5, 3.0]], [[0.0, 2.0]]])
    assert PassAtK().corpus(sums).tolist() == [[0.5], [0.0]]
    assert metric_of_tasks().name == "humaneval_pass_at_k"
