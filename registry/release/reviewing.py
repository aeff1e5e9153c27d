"""A review is opened with a sealed plan, and closed once with the ratings that count."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.errors import ReleaseError
from core.files import digest_of_text
from pipelines.rating.collect import Found, collect_ratings, find_unfinished
from pipelines.rating.criteria import criteria_digest
from pipelines.rating.plan import Ratings, ReviewPlan, parse_plan
from pipelines.rating.sample import Shown, draw_items
from registry.ledger.entries import Body, Rated, ReviewOpened
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, RecordedReview
from registry.release.context import append
from registry.release.judging.circumstances import HumanRating
from registry.release.rated_answers import comparator_of, questions_of
from registry.release.rating import (
    RatedVersion,
    count_again,
    is_early,
    numbered_reviews,
    summarise,
)


@dataclass(frozen=True)
class By:
    """Who opens or closes a review."""

    name: str
    account: str


@dataclass(frozen=True)
class SealedReview:
    """A review of a version, with its sealed plan."""

    recorded: RecordedReview
    plan: ReviewPlan
    number: int
    """1 for the first of these bytes, and so on."""


@dataclass(frozen=True)
class Extent:
    """How much people are asked, and for how long."""

    prompts: int
    days: float


def plan_review(
    version: RatedVersion,
    reviewers: tuple[str, ...],
    extent: Extent,
    ledger_state: LedgerState,
) -> tuple[ReviewPlan, tuple[Shown, ...]]:
    """What is shown of a version; errors as of `draw_items` and `questions_of`.

    Without reviewers a language model rates in their place, which it may where nobody was asked.
    Which prompts are drawn follows from the bytes and the number of the review: nobody can look for
    prompts that suit a version. `ReleaseError` where the policy allows no other review of them.
    """
    made = version.origin.made
    reviews = numbered_reviews(version.origin, ledger_state)
    opened = list(reviews)
    earlier = len(opened)
    _check_may_open(version, earlier)
    were_asked = any(review.reviewers for _, review in opened)
    if were_asked and not reviewers:
        raise ReleaseError(
            f"People were asked about version {made.version} of {made.model}, so that they decide: "
            "close their review with `assay review close`."
        )
    # Of the bytes and the count alone: nobody can try seeds.
    digest = digest_of_text(f"{made.package_sha256} {earlier}")
    beginning = digest[:16]
    seed = int(beginning, 16)
    comparator = comparator_of(version.package)
    questions = questions_of(version.package, comparator)
    shown = draw_items(
        questions,
        extent.prompts,
        seed,
    )
    # Sealed as well: whoever closes has no moment to choose.
    closes_at = datetime.now(UTC) + timedelta(days=extent.days)
    # What was shown is sealed with its plan, so that no item can be slipped in later.
    plan = ReviewPlan(
        model=made.model,
        version=made.version,
        package_sha256=made.package_sha256,
        comparator=comparator,
        reviewers=reviewers,
        items=tuple(each.item for each in shown),
        closes_at=closes_at,
        criteria_sha256=criteria_digest(),
    )
    return plan, shown


def _check_may_open(version: RatedVersion, earlier: int) -> None:
    """Refuse to ask people again and again until it suits."""
    most = version.policy.gates.judge.human_rating.max_reviews
    if earlier < most:
        return
    made = version.origin.made
    raise ReleaseError(
        f"Version {made.version} of {made.model} had {earlier} reviews, closed or not, and the "
        f"policy allows {most}: max_reviews of judge.human_rating. Train another version."
    )


def enter_opening(plan: ReviewPlan, by: By, ledger: Ledger) -> int:
    """Seal the plan and enter the review; gives the entry's generation."""
    # Kept beside the ledger, in a home that opens for its owner alone.
    sealed = ledger.remember(plan.model_dump_json())
    body = ReviewOpened(
        by=by.name,
        account=by.account,
        model=plan.model,
        version=plan.version,
        package_sha256=plan.package_sha256,
        against=plan.comparator,
        plan_sha256=sealed,
        reviewers=plan.reviewers,
    )
    return append(ledger, lambda _: body).head.generation


def find_open(version: RatedVersion, ledger: Ledger) -> SealedReview:
    """The version's open review; `ReleaseError` where there is none, or its plan was erased."""
    made = version.origin.made
    place = f"version {made.version} of {made.model}"
    for number, review in reversed(
        list(numbered_reviews(version.origin, ledger.state()))
    ):
        if review.rated is not None:
            break
        if not review.reviewers:
            raise ReleaseError(
                f"The review of {place} is a language model's, and nobody else was asked: "
                "`assay review rate-by-model` has it rate."
            )
        text = ledger.recall(review.plan_sha256)
        plan = read_sealed_plan(text, place, "was rated")
        return SealedReview(review, plan, number)
    raise ReleaseError(
        f"No review of {place} is open. `assay review open {made.version} --model {made.model}` "
        "opens one."
    )


def read_sealed_plan(text: str | None, place: str, unknown: str) -> ReviewPlan:
    """The plan of the review of `place`; `ReleaseError` where its text was erased or is none.

    `unknown` is what nobody knows then.
    """
    plan = parse_plan(text or "")
    if plan is None:
        raise ReleaseError(
            f"The sealed plan of the review of {place} was erased, so that nobody knows what "
            f"{unknown}. Open another one with `assay review open`."
        )
    return plan


@dataclass(frozen=True)
class Closed:
    """What a review came to, and the entry that says so."""

    generation: int
    rating: HumanRating


def close(
    version: RatedVersion,
    review: SealedReview,
    found: Found,
    by: By,
    ledger: Ledger,
    *,
    is_unfinished_allowed: bool = False,
) -> Closed:
    """Enter what people wrote as the review's ratings, for good.

    `ReleaseError` where somebody has not finished, unless that is allowed.
    """
    plan = review.plan
    ratings = collect_ratings(plan, found)
    now = datetime.now(UTC)
    closing = review.recorded.model_copy(update={"closed_at": now})
    is_too_soon = is_early(plan, ratings, closing)
    # Whoever could close at a moment of their choice could wait for a good one.
    if is_too_soon and not is_unfinished_allowed:
        raise ReleaseError(_describe_unfinished(plan, ratings))
    # Counted as an audit will count it, so that both come to the same.
    counted = count_again(
        version,
        plan,
        ratings,
        review.number,
    )
    rating = summarise(counted, plan, ratings).model_copy(
        update={"is_early": is_too_soon}
    )
    body = _entry(
        review,
        ratings,
        rating,
        by,
        ledger,
    )
    ledger_state = append(ledger, lambda _: body)
    return Closed(ledger_state.head.generation, rating)


def _describe_unfinished(plan: ReviewPlan, ratings: Ratings) -> str:
    unfinished = find_unfinished(plan, ratings.ratings)
    left = ", ".join(f"{name} has {count} left" for name, count in unfinished.items())
    until = (
        "" if plan.closes_at is None else f" until {plan.closes_at:%Y-%m-%d %H:%M} UTC"
    )
    return (
        f"The review is not finished: {left}. Wait for them{until}, or close it with --unfinished: "
        "nobody can rate any more then, and nothing passes by it."
    )


def _entry(
    review: SealedReview, ratings: Ratings, rating: HumanRating, by: By, ledger: Ledger
) -> Body:
    plan = review.plan
    return Rated(
        by=by.name,
        account=by.account,
        model=plan.model,
        version=plan.version,
        package_sha256=plan.package_sha256,
        opened=review.recorded.opened,
        ratings_sha256=ledger.remember(ratings.model_dump_json()),
        raters=rating.raters,
        prompts=rating.prompts,
        difference=rating.difference,
        safe_share=rating.safe_share,
        agreement=rating.agreement,
    )
