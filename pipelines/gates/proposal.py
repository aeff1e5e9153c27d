"""A policy for a set of rows: primary metric, smallest effect and margins, each with its reason.

Margins follow from what so many held-out clusters can show, not from a wish: one that the rows
cannot show leaves every verdict undecided.
"""

import math
from collections.abc import Sequence
from typing import Any

from core.value import Value
from pipelines.gates.policy import GatePolicy
from pipelines.gates.task import Task, recognise_task
from pipelines.metrics import metric_named
from pipelines.rows.contents import assign_clusters, digest_contents
from pipelines.statistics.power import smallest_detectable_effect
from pipelines.values.dataset import Prompt

_SPREADS = {
    "chrf": 20.0,
    "bleu": 20.0,
    "rouge_l": 0.2,
    "json_field_f1": 0.3,
}
"""Standard deviation of a cluster's paired difference, as tasks of that kind often have it."""
_SPREAD_OF_A_SHARE = 0.5
_LOSS_MARGINS = {"perplexity_per_token": 0.5, "bits_per_byte": 0.05}
_LEAST_SHARE = 0.01
"""Of a scale. Less is no difference that anybody would release for."""


class Proposal(Value):
    """What a policy for these rows should ask for, and why."""

    task: str
    primary: str
    metrics: tuple[str, ...]
    smallest_effect: float
    margins: dict[str, float]
    clusters: int
    reasons: tuple[str, ...]

    def applied_to(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        """A policy's document with these limits in the place of its own."""
        guardrails = [
            {"metric": metric, "margin": margin, "required": metric in _LOSS_MARGINS}
            for metric, margin in self.margins.items()
        ]
        screen = {
            **document["screen"],
            "primary": self.primary,
            "control": self.primary,
            "smallest_effect": self.smallest_effect,
            "guardrails": guardrails,
        }
        return {**document, "name": name, "screen": screen}


def propose(
    prompts: Sequence[Prompt], held_out: Sequence[Prompt], default: GatePolicy
) -> Proposal:
    """Propose limits for the prompts of which `held_out` will judge.

    What the proposal does not name stays as `default` has it.
    """
    task = recognise_task(prompts)
    groups = [prompt.group for prompt in held_out]
    clusters = len(set(assign_clusters(groups, digest_contents(held_out))))
    # Rows of one group, or with the same content, are one observation.
    # Of an empty split nothing could be computed; the reasons say that it is too small.
    reach = _reach(max(clusters, 1), default)
    smallest, reason = _smallest_effect(task, reach, clusters)
    share = 10 * smallest / metric_named(task.primary).scale
    margins = {
        name: _margin(name, reach, min(0.5, share))
        for name in task.metrics
        if name != task.primary
    }
    return Proposal(
        task=task.name,
        primary=task.primary,
        metrics=task.metrics,
        smallest_effect=smallest,
        margins=margins,
        clusters=clusters,
        reasons=(
            f"{task.because}: {task.primary} is the primary metric",
            reason,
            _describe_margins(margins),
            *_describe_lacks(prompts, held_out, clusters, default),
        ),
    )


def _reach(clusters: int, default: GatePolicy) -> float:
    """What so many clusters show, in standard deviations of a cluster's difference."""
    screen = default.screen
    return smallest_detectable_effect(clusters, screen.alpha, screen.power)


def _smallest_effect(task: Task, reach: float, clusters: int) -> tuple[float, str]:
    metric = metric_named(task.primary)
    # A guess, and said to be one: nothing has been answered or scored yet.
    spread = _spread(task.primary)
    shown = reach * spread
    ceiling = metric.scale / 10
    least = metric.scale * _LEAST_SHARE
    # Between what is worth a release and what a policy may ask for.
    effect = min(ceiling, max(least, _rounded_up(shown)))
    fact = (
        f"{clusters} held-out clusters show a difference of {shown / 2:.2g} to {shown:.2g} "
        f"four times in five, where a cluster's difference spreads by {spread / 2:g} to "
        f"{spread:g}"
    )
    if shown <= ceiling:
        return effect, f"{fact}: smallest_effect is {effect:g}"
    return effect, (
        f"{fact}: over the most that a policy may ask for, so smallest_effect is {effect:g}, "
        "and most verdicts will be undecided until there are more rows"
    )


def _margin(name: str, reach: float, most_share: float) -> float:
    """The loss that the rows can exclude where there is none, up to the ceiling of a policy."""
    scale = metric_named(name).scale
    ceiling = scale * most_share
    shown = reach * _spread(name)
    # Of losses the spread is too different from task to task to be assumed.
    wanted = _LOSS_MARGINS.get(name, _rounded_up(shown))
    return min(ceiling, wanted)


def _spread(name: str) -> float:
    # Metrics that are shares of rows spread alike: one number stands for all of them.
    return _SPREADS.get(name, _SPREAD_OF_A_SHARE)


def _rounded_up(number: float) -> float:
    """To one digit, upwards: 0.034 is 0.04."""
    power = math.floor(math.log10(number))
    digit = 10.0**power
    # Rounded first, since 0.04 / 0.01 is a little more than 4.
    steps = round(number / digit, 6)
    rounded = math.ceil(steps) * digit
    return round(rounded, 6)


def _describe_margins(margins: dict[str, float]) -> str:
    shown = [f"{name} {margin:g}" for name, margin in margins.items()]
    return (
        "A candidate that loses nothing passes these margins four times in five, if the spreads "
        f"are so: {', '.join(shown)}; those of losses are the default policy's"
    )


def _describe_lacks(
    prompts: Sequence[Prompt],
    held_out: Sequence[Prompt],
    clusters: int,
    default: GatePolicy,
) -> list[str]:
    """What the floors of the default policy, which stay, will say of these rows."""
    # Said and not lowered: a floor that gives way where it is missed is none.
    floors = default.admit.min_rows
    lacks = []
    needed = default.screen.min_clusters
    if clusters < needed:
        lacks.append(
            f"The floor of {needed} held-out clusters stays: {needed - clusters} more are needed "
            "before anything passes"
        )
    wanted = floors["held_out"]
    if len(held_out) < wanted:
        lacks.append(
            f"The floor of {wanted} held-out rows stays, and {len(held_out)} prompts of "
            f"{len(prompts)} are held out: bring more rows"
        )
    return lacks
