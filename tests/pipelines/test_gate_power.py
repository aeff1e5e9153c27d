"""The power of all rules together, from evidence whose truth is known."""

import math
import random
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from pipelines.gates import what_passes
from pipelines.gates.what_passes import describe_power
from pipelines.metrics import METRICS, metric_named
from pipelines.stages.score import build_evidence, score
from pipelines.stages.screen import screen, screen_evidence
from pipelines.statistics.gate_power import (
    MOST_CLUSTERS,
    Demand,
    GateSimulation,
    provable_margin,
)
from pipelines.statistics.jackknife import reach_of_t
from pipelines.values.dataset import Prompt
from pipelines.values.evidence import System
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.verdict import Undecided
from tests.support import trials


def a_little_worse(prompt: Prompt, dice: random.Random) -> str:
    """The reference, with one word lost somewhat more often."""
    words = prompt.references[0].split()
    return " ".join(words if dice.random() < 0.53 else words[1:])


AS_GOOD: dict[System, tuple[trials.Answer, float]] = {
    "base": (a_little_worse, 2.0),
    "few_shot": (trials.wrong, 3.0),
    "adapter": (trials.right, 2.0),
}


def superior(truth: float, measured: float = -math.inf) -> Demand:
    return Demand(truth=truth, above=0, measured=measured)


def simulation(clusters: int, columns: int = 1) -> GateSimulation:
    noise = np.random.default_rng(0).normal(size=(clusters, columns))
    return GateSimulation(noise, alpha=0.05, seed=0)


def test_the_power_of_one_rule_is_that_of_a_t_test() -> None:
    gate = simulation(400)
    for truth, clusters in ((0.3, 100), (0.5, 37), (0.0, 37)):
        expected = NormalDist().cdf(
            truth * math.sqrt(clusters) - reach_of_t(0.05, clusters)
        )
        low, high = gate.power([superior(truth)], clusters)
        assert low - 0.03 <= expected <= high + 0.03


def test_rules_together_pass_less_often_than_one_of_them() -> None:
    gate = simulation(60, columns=6)
    one, other = (
        gate.power([superior(0.4)] * 6, 60),
        simulation(60).power([superior(0.4)], 60),
    )
    assert one[1] < other[0]


def test_few_clusters_give_a_wide_range_and_the_needed_clusters_give_the_power() -> (
    None
):
    wide = simulation(20).clusters_for([superior(0.3)], 0.8)
    narrow = simulation(500).clusters_for([superior(0.3)], 0.8)
    assert wide
    assert narrow
    assert wide[1] / wide[0] > 1.5 > narrow[1] / narrow[0]
    low, high = simulation(500).power([superior(0.3)], narrow[1])
    assert low >= 0.7
    assert high <= 0.9


def test_no_number_of_clusters_shows_a_gain_of_exactly_what_must_be_measured() -> None:
    assert simulation(40).clusters_for([superior(1.0, measured=1.0)], 0.8) is None
    low, high = simulation(40).power([superior(1.0, measured=1.0)], MOST_CLUSTERS)
    assert 0.4 < low <= high < 0.6


def test_a_bound_at_its_limit_shows_nothing_and_a_gain_as_measured_is_enough() -> None:
    # Without any noise each comparison is at its limit, or is not, in every draw.
    still = GateSimulation(np.zeros((20, 1)), alpha=0.05, seed=0)
    at_limit = Demand(truth=1.0, above=1.0, measured=-math.inf)
    assert still.power([at_limit], 20) == (0, 0)
    enough = Demand(truth=1.0, above=0.0, measured=1.0)
    assert still.power([enough], 20) == (1, 1)
    # A power of exactly what is asked for is enough.
    needed = still.clusters_for([enough], 1.0)
    assert needed is not None
    assert needed[1] < 10


def test_a_provable_margin_is_kept_to_with_the_power_that_was_asked_for() -> None:
    gate = simulation(300)
    spread = float(np.mean([each[0] for each in gate.spreads]))
    margin = provable_margin(spread / math.sqrt(50), 50, 0.05, 0.8)
    low, high = gate.power([Demand(0, -margin, -math.inf)], 50)
    assert low - 0.03 <= 0.8 <= high + 0.03


def test_an_undecided_verdict_says_what_all_rules_together_can_show(
    tmp_path: Path,
) -> None:
    made = trials.trial(AS_GOOD)
    card = score(made, trials.params(), 20, tmp_path)
    evidence = build_evidence(made, METRICS, MetricSettings())
    policy = trials.policy()
    verdict = screen_evidence(card, evidence, policy)
    assert isinstance(verdict, Undecided)
    power, margins = describe_power(evidence, policy.gates.screen)
    first = next(each for each in verdict.findings if each.outcome == "undecided")
    assert first.text.endswith(f"{power}. {margins}")
    plain = screen(card, verdict.comparisons, policy)
    assert [each.rule for each in plain.findings] == [
        each.rule for each in verdict.findings
    ]
    assert sum(power in each.text for each in verdict.findings) == 1
    assert power.startswith("All 10 comparisons together: on 30 clusters like these a")
    assert "better by 4 in chrf and loses nothing elsewhere passes in" in power
    assert "bleu" in margins
    assert "instead of 1" in margins


def test_a_verdict_that_is_decided_needs_no_power(tmp_path: Path) -> None:
    made = trials.trial()
    card = score(made, trials.params(), 20, tmp_path)
    evidence = build_evidence(made, METRICS, MetricSettings())
    verdict = screen_evidence(card, evidence, trials.policy())
    assert verdict.verdict == "passed"
    assert not any("comparisons together" in each.text for each in verdict.findings)


@pytest.mark.parametrize("groups", [9, 10])
def test_of_under_ten_clusters_nothing_is_said(groups: int) -> None:
    evidence = trials.evidence(trials.trial(AS_GOOD, trials.rows(groups=groups)))
    said = describe_power(evidence, trials.policy().gates.screen)
    assert bool(said) == (groups == 10)


def test_where_nothing_varies_nothing_is_said() -> None:
    same: dict[System, tuple[trials.Answer, float]] = dict.fromkeys(
        ("base", "few_shot", "adapter"), (lambda _, __: "zzzz", 2.0)
    )
    evidence = trials.evidence(trials.trial(same))
    assert describe_power(evidence, trials.policy(primary="bleu").gates.screen) == ()


def test_a_loss_against_the_anchor_is_one_demand_more() -> None:
    held: dict[System, tuple[trials.Answer, float]] = {
        **AS_GOOD,
        "anchor": (a_little_worse, 2.1),
    }
    limits = trials.policy().gates.screen
    # The primary metric, and each guardrail that was scored and names the anchor.
    (without, *_), (power, *_) = (
        describe_power(trials.evidence(trials.trial(systems)), limits)
        for systems in (AS_GOOD, held)
    )
    assert without.startswith("All 10 comparisons")
    assert power.startswith("All 15 comparisons")


def test_a_comparison_that_may_be_equal_has_its_own_demand_and_no_other_has() -> None:
    cheaper = {
        "cost": "tokens_per_answer",
        "saving": 0.2,
        "margin": 1.0,
        "than": ["champion"],
    }
    wide = {"metric": "bits_per_byte", "margin": 1.0}
    with_champion: dict[System, tuple[trials.Answer, float]] = {
        **AS_GOOD,
        "champion": (a_little_worse, 2.0),
    }
    texts = {}
    for name, systems in (("champion", with_champion), ("none", AS_GOOD)):
        evidence = trials.evidence(trials.trial(systems))
        for kind, more in (("better", {}), ("equal", {"cheaper": cheaper})):
            limits = trials.policy(guardrails=[wide], **more).gates.screen
            power, *_ = describe_power(evidence, limits)
            texts[name, kind] = power
    assert texts["none", "better"] == texts["none", "equal"]
    assert texts["champion", "better"] != texts["champion", "equal"]


@pytest.mark.parametrize(("share", "is_over"), [(0.99, False), (1.01, True)])
def test_a_margin_at_the_ceiling_may_still_be_written_into_the_policy(
    share: float, is_over: bool
) -> None:
    limits = trials.policy().gates.screen
    bits = metric_named("bits_per_byte")
    ceiling = limits.most_margin(bits)
    rule = what_passes._Rule(bits, ceiling / 10, np.zeros(3))
    # Rounded up to two digits: the lower one is the ceiling itself.
    text = what_passes._describe_margin(rule, share * ceiling, limits)
    assert ("over the ceiling" in text) == is_over


def test_where_no_number_of_rows_would_do_none_is_named() -> None:
    evidence = trials.evidence(trials.trial(AS_GOOD))
    narrow = {"metric": "bits_per_byte", "margin": 0.0001}
    hardly = trials.policy(smallest_effect=0.002, guardrails=[narrow]).gates.screen
    power, *_ = describe_power(evidence, hardly)
    assert power.endswith("of cases")
    assert "clusters in 80%" not in power


def test_margins_that_can_be_kept_to_are_not_proposed_anew() -> None:
    evidence = trials.evidence(trials.trial(AS_GOOD))
    wide = {"metric": "bits_per_byte", "margin": 1.0}
    limits = trials.policy(guardrails=[wide]).gates.screen
    assert len(describe_power(evidence, limits)) == 1
