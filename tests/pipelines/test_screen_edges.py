"""What `make mutate` and `make coverage` found that no other test of `screen` holds to."""

import pytest

from pipelines.gates.no_evidence import ROUNDING, has_spread, is_at_best, is_flat
from pipelines.gates.screening.case import Case
from pipelines.gates.screening.guardrail_rules import check_any_guardrail
from pipelines.metrics import OwnMetric, metric_named
from pipelines.stages.score import score
from pipelines.stages.screen import list_rules
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Scorecard, System
from pipelines.values.own_metric import OwnMetricRecord
from pipelines.values.verdict import Comparison
from tests.support import trials

WITH_ANCHOR: dict[System, tuple[trials.Answer, float]] = {
    "adapter": (trials.right, 1.0),
    "base": (trials.wrong, 3.0),
    "few_shot": (trials.wrong, 3.0),
    "anchor": (trials.right, 1.0),
}


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Scorecard:
    folder = tmp_path_factory.mktemp("score")
    return score(trials.trial(WITH_ANCHOR), trials.params(), 20, folder)


def unguarded(card: Scorecard, *guardrails: dict[str, object]) -> str:
    """What is said where no metric was scored and the policy has these guardrails."""
    bare = tuple(each.model_copy(update={"metrics": ()}) for each in card.systems)
    nothing = card.model_copy(update={"systems": bare})
    gates = trials.policy().gates
    asked = trials.policy(guardrails=guardrails).gates.screen if guardrails else None
    limits = asked or gates.screen.model_copy(update={"guardrails": ()})
    case = Case(
        scorecard=nothing,
        comparisons=(),
        gates=gates.model_copy(update={"screen": limits}),
    )
    (found,) = check_any_guardrail(case)
    return found.text


def test_nothing_must_be_superior_to_the_anchor(card: Scorecard) -> None:
    rules = list_rules(card, trials.policy())
    superior = [rule for rule in rules if "superior to" in rule]
    assert superior == ["chrf superior to base", "chrf superior to few_shot"]
    assert "bleu not inferior to anchor" in rules
    # And the primary metric may not fall behind it.
    assert rules.count("chrf not inferior to anchor") == 1


def test_guardrails_that_judged_nothing_are_named(card: Scorecard) -> None:
    bleu: dict[str, object] = {"metric": "bleu", "margin": 1.0, "required": False}
    assert "since none of bleu was scored" in unguarded(card, bleu)
    assert "since the policy names no guardrail" in unguarded(card)


def test_what_was_not_scored_has_no_interval_that_could_equal_another(
    card: Scorecard,
) -> None:
    case = Case(scorecard=card, comparisons=(), gates=trials.policy().gates)
    assert case.find_interval("chrf", "champion") is None
    assert case.find_interval("no_such_metric", "adapter") is None
    assert case.find_signature("chrf", "champion") is None
    assert case.find_signature("no_such_metric", "adapter") is None
    assert case.find_interval("chrf", "adapter") is not None


def test_the_best_of_a_scale_is_where_nothing_is_left_to_win() -> None:
    facts = {
        "name": "word_error",
        "sha256": "0" * 64,
        "unit": "share",
        "scale": 1.0,
        "compares_answers": True,
        "method": None,
        "inapplicable": None,
    }
    best = Interval(estimate=0.0, low=0.0, high=0.0)
    # Of errors none is best, and of a metric without an end nobody knows.
    for higher, worst, is_best in (
        (False, 1.0, True),
        (True, -1.0, True),
        (True, 0.0, False),
        (False, 0.0, False),
        (False, None, False),
    ):
        record = OwnMetricRecord.model_validate(
            {**facts, "higher_is_better": higher, "worst": worst}
        )
        assert is_at_best(OwnMetric(record), best) is is_best
        assert not is_at_best(OwnMetric(record), None)


@pytest.mark.parametrize(
    ("error", "spread"), [(ROUNDING, False), (ROUNDING * 1.01, True)]
)
def test_what_rounding_may_leave_is_no_spread(error: float, spread: bool) -> None:
    metric = metric_named("exact_match")
    comparison = Comparison(
        metric=metric.name,
        against="base",
        difference=0,
        low=0,
        high=0,
        standard_error=error * metric.scale,
        clusters=30,
    )
    assert has_spread(comparison, metric) is spread


@pytest.mark.parametrize(
    ("own", "other", "flat"),
    [
        ((1, 1, 1), (1, 1, 1), True),
        ((1, 1, 1), (2, 2, 2), False),
        ((1, 0, 2), (1, 0, 2), False),
        ((1, 1, 1), None, False),
        (None, (1, 1, 1), False),
        (None, None, False),
    ],
)
def test_only_one_score_on_every_prompt_of_both_is_flat(
    own: tuple[int, int, int] | None, other: tuple[int, int, int] | None, flat: bool
) -> None:
    def interval(numbers: tuple[int, int, int] | None) -> Interval | None:
        if numbers is None:
            return None
        estimate, low, high = numbers
        return Interval(estimate=estimate, low=low, high=high)

    assert is_flat(interval(own), interval(other)) is flat
