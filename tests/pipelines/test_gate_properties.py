"""Whatever the numbers: nothing worse than the policy becomes a finalist, and no NaN gets in."""

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from core.errors import IncompleteEvidence
from pipelines.gates.comparisons import OTHERS, compare
from pipelines.gates.policy import Policy
from pipelines.metrics import metric_named
from pipelines.stages.score import build_evidence, score
from pipelines.stages.screen import screen
from pipelines.values.dataset import Interval
from pipelines.values.evidence import DevLoss, Scorecard
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.verdict import Comparison, Finalist
from tests.support import trials

SYSTEMS = ("base", "few_shot")
PAIRS = [
    ("chrf", OTHERS),
    *((name, system) for name in trials.params().score.metrics for system in SYSTEMS),
]
# Around every boundary of the default policy, so that both sides of each are drawn often.
NUMBERS = st.one_of(
    st.sampled_from([-1.0, -0.5, -0.05, -0.02, 0.0, 1e-9, 0.01, 1.0, 2.0, 2.1]),
    st.floats(-5, 5),
    st.just(1.0),
)
GOOD = st.tuples(st.just(1.0), st.just(3.0))
BOUNDS = st.one_of(
    GOOD,
    GOOD,
    GOOD,
    GOOD,
    st.tuples(NUMBERS, NUMBERS).map(lambda pair: (min(pair), max(pair))),
)


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Scorecard:
    """A scorecard that passes with good comparisons."""
    gap = trials.bias(Interval(estimate=1, low=0, high=3))
    return score(
        trials.trial(), trials.params(), 20, tmp_path_factory.mktemp("score")
    ).model_copy(update={"bias": gap})


@pytest.fixture(scope="module")
def policy() -> Policy:
    """The default policy."""
    return trials.policy()


def comparison(
    metric: str, against: str, low: float, high: float, clusters: int = 30
) -> Comparison:
    facts = {
        "metric": metric,
        "against": against,
        "low": low,
        "high": high,
        "clusters": clusters,
    }
    return Comparison.model_validate(
        facts | {"difference": (low + high) / 2, "standard_error": 1.0}
    )


def is_good_enough(found: Comparison, policy: Policy) -> bool:
    """The policy in other words than the gate's."""
    gates = policy.gates.screen
    margins = {rail.metric: rail.margin for rail in gates.guardrails}
    is_enough = found.clusters >= gates.min_clusters
    if found.metric != "chrf":
        return is_enough and found.low > -margins[found.metric]
    # The anchor need not be beaten: nobody may lose the smallest effect against it.
    if found.against == "anchor":
        return is_enough and found.low > -gates.smallest_effect
    # The control only shows that answers belong to their prompts.
    if found.against == OTHERS:
        return is_enough and found.low > 0
    return is_enough and found.low > 0 and found.difference >= gates.smallest_effect


# A control that is better, and by less than an effect that is worth a release.
@example(
    bounds=[(1.0, 1.0), *[(1.0, 3.0)] * (len(PAIRS) - 1)],
    clusters=20,
    missing=None,
    moved=1.0,
    dev=(1.0, 0.0),
    gap=[0.0, 0.0],
)
# A perplexity that is missing, though both sides count the same tokens: bits per byte must not
# stand in for it.
@example(
    bounds=[(1.0, 3.0)] * len(PAIRS),
    clusters=20,
    missing=9,
    moved=1.0,
    dev=(1.0, 0.0),
    gap=[0.0, 0.0],
)
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    bounds=st.lists(BOUNDS, min_size=len(PAIRS), max_size=len(PAIRS)),
    clusters=st.sampled_from([2, 19, 20, 21, 500, 500, 500]),
    missing=st.one_of(st.none(), st.integers(0, len(PAIRS) - 1)),
    moved=st.sampled_from([0.0, 1e-9, 1.0, 1.0]),
    dev=st.tuples(st.floats(0, 5), st.floats(0, 5)),
    gap=st.tuples(st.floats(0, 20), st.floats(0, 20)).map(sorted),
)
def test_nothing_worse_than_the_policy_ever_becomes_a_finalist(
    card: Scorecard,
    policy: Policy,
    bounds: list[tuple[float, float]],
    clusters: int,
    missing: int | None,
    moved: float,
    dev: tuple[float, float],
    gap: list[float],
) -> None:
    comparisons = tuple(
        comparison(*pair, *bound, clusters)
        for place, (pair, bound) in enumerate(zip(PAIRS, bounds, strict=True))
        if place != missing
    )
    adapter = trials.adapter(
        moved=moved,
        best_step=1,
        dev_losses=(DevLoss(step=0, loss=dev[0]), DevLoss(step=1, loss=dev[1])),
    )
    bias = trials.bias(Interval(estimate=gap[0], low=gap[0], high=gap[1]))
    verdict = screen(
        card.model_copy(update={"adapter": adapter, "bias": bias}), comparisons, policy
    )
    good = all(is_good_enough(each, policy) for each in comparisons) and missing is None
    assert isinstance(verdict, Finalist) == (
        good and moved > 0 and dev[1] < dev[0] and gap[1] <= 10 and clusters >= 20
    )


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    place=st.integers(0, len(PAIRS) - 1),
    field=st.sampled_from(["difference", "low", "high", "standard_error"]),
    hole=st.sampled_from([math.nan, math.inf, -math.inf]),
)
def test_a_comparison_with_nan_or_infinity_cannot_be_made_and_if_forged_is_refused(
    card: Scorecard, policy: Policy, place: int, field: str, hole: float
) -> None:
    good = [comparison(*pair, 1.0, 3.0) for pair in PAIRS]
    facts = good[place].model_dump() | {field: hole}
    with pytest.raises(ValidationError):
        Comparison.model_validate(facts)
    good[place] = Comparison.model_construct(**facts)
    with pytest.raises(IncompleteEvidence, match=f"not valid: {field}"):
        screen(card, tuple(good), policy)


@pytest.mark.parametrize("field", ["moved", "train_loss"])
def test_an_adapter_with_a_forged_nan_is_refused(
    card: Scorecard, policy: Policy, field: str
) -> None:
    forged = card.model_copy(
        update={"adapter": card.adapter.model_copy(update={field: math.nan})}
    )
    with pytest.raises(IncompleteEvidence, match=f"adapter.{field}"):
        screen(forged, tuple(comparison(*pair, 1.0, 3.0) for pair in PAIRS), policy)


def test_a_nan_in_the_bias_report_is_refused(card: Scorecard, policy: Policy) -> None:
    gap = Interval.model_construct(estimate=math.nan, low=math.nan, high=math.nan)
    with pytest.raises(IncompleteEvidence, match="bias"):
        screen(
            card.model_copy(
                update={
                    "bias": trials.bias().model_copy(update={"score_difference": gap})
                }
            ),
            (),
            policy,
        )


def test_no_comparisons_at_all_are_rejected(card: Scorecard, policy: Policy) -> None:
    assert screen(card, (), policy).verdict == "rejected"


def claims_superiority(seed: int) -> bool:
    """Whether an adapter that is no better than the base passes every chrF comparison.

    The answers and the draw of rows depend on `seed`.
    """
    made = trials.trial(
        dict.fromkeys(("base", "few_shot", "adapter"), (trials.wrong, 3.0)),
        trials.rows(seed=seed),
    )
    found = compare(
        build_evidence(made, [metric_named("chrf")], MetricSettings()),
        trials.policy().gates.screen,
    )
    return min(each.low for each in found) > 0


def test_an_adapter_that_answers_no_better_than_the_base_passes_more_seldom_than_alpha() -> (
    None
):
    assert sum(claims_superiority(seed) for seed in range(50)) <= 2


def test_an_intact_finalist_names_what_it_was_judged_on(
    card: Scorecard, policy: Policy, tmp_path: Path
) -> None:
    verdict = screen(card, tuple(comparison(*pair, 1.0, 3.0) for pair in PAIRS), policy)
    assert isinstance(verdict, Finalist)
    verdict.write(tmp_path / "verdict.json")
    assert Finalist.read(tmp_path / "verdict.json") == verdict
    assert (verdict.scorecard_digest, verdict.policy_sha256) == (
        card.content_sha256(),
        policy.sha256,
    )
