"""What this held-out set can show: the power of all rules together, and margins within its reach.

Said with each undecided verdict, and before a run where an earlier one left evidence.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.gates.comparisons import compared_systems
from pipelines.gates.policy import FEWEST_CLUSTERS, Guardrail, ScreenPolicy
from pipelines.metrics import FloatArray, Metric
from pipelines.scoring.evidence_file import Evidence
from pipelines.statistics.bootstrap import sums_by_group, without_each
from pipelines.statistics.gate_power import Demand, GateSimulation, provable_margin
from pipelines.statistics.jackknife import influences, standard_error
from pipelines.values.evidence import System

EFFECTS = 2
"""Smallest effects that the candidate asked about is better by.

At one of them half of all measured gains are under it, so that no number of rows gives a power over
a half.
"""


@dataclass(frozen=True)
class _Rule:
    """One comparison that must pass, and what each cluster adds to it."""

    metric: Metric
    margin: float | None
    """None: the primary metric, which must be superior."""
    without_one: FloatArray

    @property
    def is_superiority(self) -> bool:
        return self.margin is None


def describe_power(evidence: Evidence, policy: ScreenPolicy) -> tuple[str, ...]:
    """Sentences on what evidence of this spread can show; none where nothing varies in it."""
    rules = tuple(_rules(evidence, policy))
    clusters = len(set(evidence.clusters))
    has_primary = any(rule.is_superiority for rule in rules)
    # Of a handful of clusters the spread itself is not known.
    if not has_primary or clusters < FEWEST_CLUSTERS:
        return ()
    return (
        _describe_whole_gate(rules, clusters, policy),
        *_describe_margins(rules, clusters, policy),
    )


def _rules(evidence: Evidence, policy: ScreenPolicy) -> Iterator[_Rule]:
    """The comparisons that judge, as `screen` asks for them; without those that show nothing."""
    margins = {guardrail.metric: guardrail for guardrail in policy.guardrails}
    for metric, system in compared_systems(evidence, policy):
        if metric.inapplicable(evidence.references) is not None:
            continue
        without_one = _without_one(evidence, metric, system)
        # Without spread it would pass in every draw, and make the gate look sure.
        if not standard_error(without_one) > 0:
            continue
        if metric.name == policy.primary:
            # The anchor guards against losses alone.
            loss = policy.smallest_effect if system == "anchor" else None
            cheaper = policy.cheaper
            if cheaper is not None and system in cheaper.than:
                loss = cheaper.margin
            yield _Rule(metric, loss, without_one)
        guardrail: Guardrail | None = margins.get(metric.name)
        if guardrail is not None and system in guardrail.against:
            yield _Rule(metric, guardrail.margin, without_one)


def _without_one(evidence: Evidence, metric: Metric, system: System) -> FloatArray:
    clusters = evidence.clusters
    own = evidence.statistics("adapter", metric.name)
    other = evidence.statistics(system, metric.name)
    own_sums = sums_by_group(clusters, own)
    other_sums = sums_by_group(clusters, other)
    return without_each(metric, own_sums, other_sums)


def _describe_whole_gate(
    rules: tuple[_Rule, ...], clusters: int, policy: ScreenPolicy
) -> str:
    effect = EFFECTS * policy.smallest_effect
    columns = [influences(rule.without_one) for rule in rules]
    simulation = GateSimulation(np.column_stack(columns), policy.alpha, policy.seed)
    demands = [_demand(rule, effect, policy) for rule in rules]
    low, high = simulation.power(demands, clusters)
    needed = simulation.clusters_for(demands, policy.power)
    text = (
        f"All {len(rules)} comparisons together: on {clusters} clusters like these a candidate "
        f"that is better by {effect:g} in {policy.primary} and loses nothing elsewhere passes in "
        f"{low:.0%} to {high:.0%} of cases"
    )
    # No number of rows would do: to name one would send somebody to label in vain.
    if needed is None:
        return text
    # The policy refuses fewer than its own floor, whatever the spread allows.
    fewest, most = (max(number, policy.min_clusters) for number in needed)
    return f"{text}, on {fewest:,} to {most:,} clusters in {policy.power:.0%}"


def _demand(rule: _Rule, effect: float, policy: ScreenPolicy) -> Demand:
    if rule.margin is None:
        return Demand(truth=effect, above=0, measured=policy.smallest_effect)
    # A better primary metric need not make any other better.
    truth = 0.0
    if rule.metric.name == policy.primary:
        truth = effect
    return Demand(
        truth=truth,
        above=-rule.margin,
        measured=-math.inf,
    )


def _describe_margins(
    rules: tuple[_Rule, ...], clusters: int, policy: ScreenPolicy
) -> Iterator[str]:
    """Name the guardrails whose margin is too narrow here for a candidate that loses nothing."""
    widest: dict[str, _Rule] = {}
    proposed: dict[str, float] = {}
    for rule in rules:
        if rule.margin is None:
            continue
        margin = provable_margin(
            standard_error(rule.without_one), clusters, policy.alpha, policy.power
        )
        name = rule.metric.name
        if margin > max(rule.margin, proposed.get(name, 0.0)):
            widest[name] = rule
            proposed[name] = margin
    if not proposed:
        return
    margins = [
        _describe_margin(rule, proposed[name], policy) for name, rule in widest.items()
    ]
    yield (
        f"Margins that a candidate without any loss would keep to in {policy.power:.0%} of cases "
        f"here, each by itself: {'; '.join(margins)}"
    )


def _describe_margin(rule: _Rule, margin: float, policy: ScreenPolicy) -> str:
    rounded = _round_up(margin)
    text = f"{rule.metric.name} {rounded:g} instead of {rule.margin:g}"
    ceiling = policy.most_margin(rule.metric)
    if rounded <= ceiling:
        return text
    return f"{text}, which is over the ceiling of {ceiling:g}: it needs more clusters"


def _round_up(number: float) -> float:
    """To two digits: a margin that is written into a policy is no measurement."""
    magnitude = math.floor(math.log10(number))
    digits = 1 - magnitude
    unit = 10.0**-digits
    units = math.ceil(number / unit)
    return round(units * unit, digits)
