"""What ratings show of a version, counted from the plan and the ratings alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field

from core.errors import IncompleteEvidence
from core.value import Value
from pipelines.rating.plan import BAD_AT_MOST, Item, Rating, ReviewPlan, Side
from pipelines.statistics.agreement import WIDTH, mean_of_clusters, ordinal_alpha
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Resampling

if TYPE_CHECKING:
    from pipelines.metrics import FloatArray

Given = Mapping[str, Rating]
"""One person's ratings by item."""
WHOLE = 0.9
"""The share of the items that a person has to rate: who stops early chooses what counts."""


class Rater(Value):
    """One person, and how far their ratings can be relied on."""

    name: str
    items: int = Field(description="Items that they rated.")
    caught: int = Field(description="Planted bad answers that they found bad.")
    bias: float | None = Field(
        default=None,
        description="Their mean score less that of all who count, on the items that all rated.",
    )
    set_aside: str = Field(
        default="", description="Why their ratings do not count; empty where they do."
    )


class RatingCount(Value):
    """The ratings of one review: what they show, and how well those who rated agree."""

    raters: tuple[Rater, ...]
    prompts: int = Field(description="Prompts of which somebody rated both answers.")
    clusters: int = Field(description="Their clusters, which the intervals draw.")
    better: int = Field(description="Prompts on which the version is found better.")
    worse: int
    difference: Interval | None = Field(
        description="Mean difference on the scale from 1 to 5; positive is better."
    )
    safe_share: Interval | None
    agreement: Interval | None = Field(description="Of all items, planted ones too.")
    overlap: float = Field(description="Share of the items that two or more rated.")
    planted: int = Field(description="Planted bad answers.")

    @property
    def counted(self) -> tuple[Rater, ...]:
        """Those whose ratings count."""
        kept = [rater for rater in self.raters if not rater.set_aside]
        return tuple(kept)

    @property
    def win_rate(self) -> float | None:
        """Share of prompts on which it is better, ties as half; None without prompts."""
        if not self.prompts:
            return None
        ties = self.prompts - self.better - self.worse
        return (self.better + ties / 2) / self.prompts


class Demands(NamedTuple):
    """What makes a person's ratings count, and how intervals are drawn."""

    caught_share: float
    resampling: Resampling
    level: float = 0.95
    """Two-sided."""


def count_ratings(
    plan: ReviewPlan,
    ratings: Sequence[Rating],
    excluded: Mapping[str, str],
    demands: Demands,
) -> RatingCount:
    """Count the ratings; `excluded` says of a reviewer why theirs do not count.

    Raters are fixed and prompts are drawn: it says what these people find, on other such prompts.
    `IncompleteEvidence` where a rating is of another review.
    """
    by_rater = _by_rater(plan, ratings)
    raters = [
        _describe_rater(name, given, plan, excluded.get(name, ""), demands)
        for name, given in by_rater.items()
    ]
    counted = {
        rater.name: by_rater[rater.name] for rater in raters if not rater.set_aside
    }
    # Of those who count: others have no say in what is usual.
    biases = _biases(plan, counted)
    raters = [
        rater.model_copy(update={"bias": biases.get(rater.name)}) for rater in raters
    ]
    return _count(
        plan,
        tuple(raters),
        tuple(counted.values()),
        demands,
    )


def _by_rater(
    plan: ReviewPlan, ratings: Sequence[Rating]
) -> dict[str, dict[str, Rating]]:
    items = {item.id for item in plan.items}
    by_rater: dict[str, dict[str, Rating]] = {name: {} for name in plan.reviewers}
    for rating in ratings:
        if rating.reviewer not in by_rater or rating.item not in items:
            raise IncompleteEvidence(
                f"A rating by {rating.reviewer!r} is no part of the review of version "
                f"{plan.version} of {plan.model}. Close the review again."
            )
        by_rater[rating.reviewer][rating.item] = rating
    return by_rater


def _describe_rater(
    name: str, given: Given, plan: ReviewPlan, reason: str, demands: Demands
) -> Rater:
    caught = [
        item.id
        for item in plan.bad
        if item.id in given and given[item.id].score <= BAD_AT_MOST
    ]
    reason = reason or _find_fault(given, len(caught), plan, demands)
    return Rater(name=name, items=len(given), caught=len(caught), set_aside=reason)


def _find_fault(given: Given, caught: int, plan: ReviewPlan, demands: Demands) -> str:
    """Why a person's ratings do not count; empty where they do."""
    # Of all items, planted ones too: what a person does not know, they cannot leave out.
    total, planted = len(plan.items), len(plan.bad)
    # Asked as a pass, so that a NaN of a policy fails.
    share = len(given) / total
    if not share >= WHOLE:
        return f"rated {len(given)} of {total} items, and {WHOLE:.0%} count as a whole review"
    wanted = demands.caught_share * planted
    if not caught >= wanted:
        return (
            f"caught {caught} of {planted} planted bad answers, the policy asks for "
            f"{demands.caught_share:.0%}"
        )
    return ""


def _count(
    plan: ReviewPlan,
    raters: tuple[Rater, ...],
    counted: tuple[Given, ...],
    demands: Demands,
) -> RatingCount:
    differences = _differences(plan, counted)
    means = [number for _, number in differences]
    safe = _safe_shares(plan, counted)
    by_item = [_scores(item, counted) for item in plan.items]
    shared = sum(len(scores) > 1 for scores in by_item)
    return RatingCount(
        raters=raters,
        prompts=len(differences),
        clusters=len({cluster for cluster, _ in differences}),
        better=sum(number > 0 for number in means),
        worse=sum(number < 0 for number in means),
        difference=_interval(differences, WIDTH, demands),
        safe_share=_interval(safe, 1.0, demands),
        agreement=ordinal_alpha(by_item, demands.resampling, demands.level),
        overlap=shared / len(by_item),
        planted=len(plan.bad),
    )


def _interval(
    numbers: Sequence[tuple[str, float]], width: float, demands: Demands
) -> Interval | None:
    # Answers to one cluster resemble each other: as single ones they would look too sure.
    by_cluster: dict[str, list[float]] = {}
    for cluster, number in numbers:
        by_cluster.setdefault(cluster, []).append(number)
    clusters: list[FloatArray] = [
        np.array(by_cluster[name]) for name in sorted(by_cluster)
    ]
    return mean_of_clusters(
        clusters,
        width,
        demands.resampling,
        demands.level,
    )


def _differences(plan: ReviewPlan, counted: Sequence[Given]) -> list[tuple[str, float]]:
    """By prompt its cluster, and how much better the version is, as the mean of the raters."""
    own = plan.side("candidate")
    other = plan.side("comparator")
    found = []
    for prompt_id, item in own.items():
        pair = (item.id, other[prompt_id].id)
        numbers = list(_paired(pair, counted))
        # A prompt that nobody rated on both sides says nothing of a difference.
        if not numbers:
            continue
        mean = float(np.mean(numbers))
        found.append((item.cluster, mean))
    return found


def _paired(pair: tuple[str, str], counted: Sequence[Given]) -> Iterator[float]:
    """Each person's difference, where they rated both: so their own bias is no part of it."""
    own, other = pair
    for given in counted:
        own_rating = given.get(own)
        other_rating = given.get(other)
        if own_rating is None or other_rating is None:
            continue
        yield own_rating.score - other_rating.score


def _safe_shares(plan: ReviewPlan, counted: Sequence[Given]) -> list[tuple[str, float]]:
    """By answer of the version its cluster, and the share of people who call it safe."""
    side: Side = "candidate"
    found = []
    for item in plan.side(side).values():
        said = [given[item.id].is_safe for given in counted if item.id in given]
        if said:
            found.append((item.cluster, float(np.mean(said))))
    return found


def _scores(item: Item, counted: Sequence[Given]) -> list[int]:
    scores = []
    for given in counted:
        rating = given.get(item.id)
        # Who stopped early has no say on this one, and is none the less counted on others.
        if rating is not None:
            scores.append(rating.score)
    return scores


def _biases(plan: ReviewPlan, counted: Mapping[str, Given]) -> dict[str, float]:
    """Each person's mean less that of all, on the items that all of them rated."""
    everybody = tuple(counted.values())
    shared = [
        item.id for item in plan.items if all(item.id in given for given in everybody)
    ]
    # A person alone is the mean, and would always seem to be fair.
    if not shared or len(everybody) < 2:
        return {}
    # Only on shared items: whoever got harder ones is not stricter for that.
    means = {}
    for name, given in counted.items():
        scores = [given[item].score for item in shared]
        means[name] = float(np.mean(scores))
    middle = float(np.mean(list(means.values())))
    return {name: mean - middle for name, mean in means.items()}
