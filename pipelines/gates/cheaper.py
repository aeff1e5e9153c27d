"""EQUAL BUT CHEAPER: the second kind of screen, which a policy declares beforehand.

    quality   the primary metric loses less than a margin       not inferior
    cost      a named cost is lower by a share of the other's   superior

Both have to hold, at the policy's level: a candidate that is cheap because it answers worse is
refused by the first.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from core.value import Settable
from pipelines.values.dataset import Interval
from pipelines.values.verdict import Comparison, Finding, Outcome

Cost = Literal["tokens_per_answer", "adapter_bytes"]
COSTS = frozenset({"tokens_per_answer", "adapter_bytes"})
Rival = Literal["few_shot", "retrieval", "champion"]


class CheaperPolicy(Settable):
    """What a candidate may lose, and what it has to save."""

    cost: Cost = Field(description="Metric of what an answer costs.")
    saving: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="Share of the other's cost that it has to save, as measured; the lower bound "
        "has to be above 0."
    )
    margin: Annotated[float, Field(gt=0)] = Field(
        description="Loss in the primary metric that is not excluded otherwise; at most the "
        "smallest effect."
    )
    than: tuple[Rival, ...] = Field(
        default=("champion",),
        min_length=1,
        description="Systems that it need not beat in quality; every other one it must.",
    )

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        # Named twice, a system would have two findings of one rule.
        if len(set(self.than)) != len(self.than):
            raise ValueError("than names a system twice")
        # No adapter is smaller than none.
        if self.cost == "adapter_bytes" and self.than != ("champion",):
            raise ValueError(
                "than names a prompt, which has no adapter: adapter_bytes compares with the "
                "champion alone"
            )
        return self


def check_saving(
    comparison: Comparison | None, other: Interval | None, policy: CheaperPolicy
) -> Finding:
    """Check that the cost is lower: shown to be, and by the policy's share as measured.

    `other` is the cost of the system that is compared with.
    """
    rule, fact = (
        f"{policy.cost} superior",
        f"{policy.cost} was not scored on both, on one base",
    )
    # Without the number nobody knows what it costs.
    if comparison is None or other is None:
        text = f"{fact}. Put it into score.metrics"
        return Finding(rule=rule, outcome="rejected", text=text)
    rule = f"{policy.cost} superior to {comparison.against}"
    needed = policy.saving * other.estimate
    text = (
        f"{policy.cost} against {comparison.against}: lower by {comparison.difference:.3g} of "
        f"{other.estimate:.3g}, bounds {comparison.low:.3g} to {comparison.high:.3g}; the policy "
        f"asks for {needed:.3g} less, {policy.saving:.0%}"
    )
    return Finding(rule=rule, outcome=_judge(comparison, needed), text=text)


def _judge(comparison: Comparison, needed: float) -> Outcome:
    # Asked as a pass: a NaN is above nothing, and a cost of 0 saves nothing.
    if comparison.low > 0 and needed > 0 and comparison.difference >= needed:
        return "passed"
    return "rejected" if comparison.high < needed else "undecided"
