"""A comparison of two rates that holds whenever one looks."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.statistics.sequential import (
    Levels,
    Rate,
    _log_beta,
    _log_likelihood,
    compare,
    log_evidence,
)

LEVELS = Levels(worse=0.05, fine=0.05)


def levels_met_exactly(
    candidate: int, baseline: int, limit: float
) -> tuple[Rate, Rate, float]:
    """Counts and a level whose logarithm is their evidence, to the last digit."""
    for total in range(20, 400):
        sides = Rate(candidate * total, 9 * total), Rate(baseline * total, 9 * total)
        evidence = log_evidence(*sides, limit)
        level = math.exp(-evidence)
        if -math.log(level) == evidence:
            return *sides, level
    raise AssertionError("no counts meet a level exactly")


def test_evidence_that_just_reaches_its_level_is_enough() -> None:
    candidate, baseline, level = levels_met_exactly(9, 1, 0.05)
    levels = Levels(worse=level, fine=0.05)
    assert compare(candidate, baseline, 0.05, levels) == "worse"
    candidate, baseline, level = levels_met_exactly(1, 1, 0.2)
    levels = Levels(worse=0.05, fine=level)
    assert compare(candidate, baseline, 0.2, levels) == "fine"


counts = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(
    lambda pair: Rate(pair[0], pair[0] + pair[1])
)
limits = st.integers(1, 50).map(lambda points: points / 100)


def test_counts_that_no_observations_give_are_refused() -> None:
    for hits, total in ((2, 1), (-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="is no rate"):
            Rate(hits, total)


def test_nothing_is_shown_without_observations() -> None:
    assert compare(Rate(0, 0), Rate(0, 0), 0.05, LEVELS) == "open"
    assert compare(Rate(0, 0), Rate(0, 10_000), 0.05, LEVELS) == "open"
    assert compare(Rate(50, 50), Rate(0, 0), 0.05, LEVELS) == "open"


def test_few_failures_of_every_request_are_enough_to_be_worse() -> None:
    assert compare(Rate(9, 9), Rate(0, 9), 0.05, LEVELS) == "worse"
    assert compare(Rate(1, 1), Rate(0, 1), 0.05, LEVELS) == "open"


def test_as_good_is_fine_only_once_it_is_shown() -> None:
    assert compare(Rate(0, 100), Rate(0, 100), 0.05, LEVELS) == "open"
    assert compare(Rate(0, 250), Rate(0, 250), 0.05, LEVELS) == "fine"


def test_a_difference_of_the_very_limit_is_never_decided() -> None:
    assert compare(Rate(300, 1000), Rate(200, 1000), 0.1, LEVELS) == "open"


def test_a_stricter_level_asks_for_more() -> None:
    sides = Rate(9, 9), Rate(0, 9)
    assert compare(*sides, 0.05, Levels(worse=1e-9, fine=0.05)) == "open"
    sides = Rate(0, 250), Rate(0, 250)
    assert compare(*sides, 0.05, Levels(worse=0.05, fine=1e-9)) == "open"


@given(counts, counts, limits)
def test_the_evidence_is_a_number_and_against_no_pair_over_its_own(
    candidate: Rate, baseline: Rate, limit: float
) -> None:
    evidence = log_evidence(candidate, baseline, limit)
    assert math.isfinite(evidence)
    prior = _log_beta(0.5, 0.5)
    mixture = sum(
        _log_beta(rate.hits + 0.5, rate.misses + 0.5) - prior
        for rate in (candidate, baseline)
    )
    # The largest likelihood in the null is found: no pair on its edge has a larger one.
    for step in range(1, 20):
        share = (1 - limit) * step / 20
        on_edge = _log_likelihood(candidate, share + limit)
        on_edge += _log_likelihood(baseline, share)
        assert evidence <= mixture - on_edge + 1e-6


def decided(candidate: float, baseline: float, limit: float, seed: int) -> str:
    """What is said first, where one looks after every pair of answers."""
    chance = random.Random(seed)
    hits = [0, 0]
    for total in range(1, 801):
        hits[0] += chance.random() < candidate
        hits[1] += chance.random() < baseline
        sides = Rate(hits[0], total), Rate(hits[1], total)
        answer = compare(*sides, limit, LEVELS)
        if answer != "open":
            return answer
    return "open"


@pytest.mark.parametrize("baseline", [0.0, 0.05, 0.5])
def test_looking_after_every_answer_calls_hardly_any_equal_candidate_worse(
    baseline: float,
) -> None:
    answers = [decided(baseline, baseline, 0.15, seed) for seed in range(40)]
    assert answers.count("worse") <= 3
    assert answers.count("fine") >= 36


def test_a_candidate_at_the_limit_is_called_worse_as_seldom_as_the_level_says() -> None:
    answers = [decided(0.25, 0.1, 0.15, seed) for seed in range(40)]
    assert answers.count("worse") <= 5
    assert answers.count("fine") <= 5


def test_a_candidate_that_is_much_worse_is_found() -> None:
    answers = [decided(0.6, 0.1, 0.15, seed) for seed in range(40)]
    assert answers.count("worse") >= 38
