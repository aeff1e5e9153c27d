"""What people's ratings of a version come to, counted again from what the ledger names.

```
entry review_opened ─► sealed plan ─┐
entry rated ────────► ratings ──────┼─► HumanRating, which `judge` looks at
people.yaml of now, policy of now ──┘
```

A second review of the same bytes is a second try: each has half the error of the one before it, so
that all of them together have 5 %. One that found the version worse is never outvoted.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.account import MLFLOW, group_by_person
from pipelines.gates.policy import Policy
from pipelines.rating.count import Demands, RatingCount, count_ratings
from pipelines.rating.plan import Rating, Ratings, ReviewPlan, parse_plan, parse_ratings
from pipelines.values.evidence import Resampling
from registry.ledger.state import LedgerState, RecordedReview, Registration
from registry.release.judging.circumstances import HumanRating
from registry.release.judging.rating_rules import find_objection
from registry.release.people import People
from registry.release.rated_answers import find_forgery

Recall = Callable[[str], str | None]
"""The text of a digest, as it is kept beside the ledger; None where it was erased."""


@dataclass(frozen=True)
class RatedVersion:
    """A version, its package on this machine, and what decides whose ratings count."""

    origin: Registration
    package: Path
    people: People
    policy: Policy


def human_rating(
    version: RatedVersion, ledger_state: LedgerState, recall: Recall
) -> HumanRating | None:
    """What people found; None where no review of these bytes was closed."""
    reviews = list(numbered_reviews(version.origin, ledger_state))
    found = {
        number: rating_of(version, review, number, recall)
        for number, review in reviews
        if review.rated is not None
    }
    if not found:
        return None
    last = max(found)
    limits = version.policy.gates.judge.human_rating
    number = last
    for each, rating in found.items():
        # One that found it worse decides, whichever came last.
        if find_objection(rating, limits):
            number = each
            break
    others = []
    for each, review in reviews:
        if each != number:
            said = describe_review(review, found.get(each))
            others.append(said)
    # Whoever asks people again says so, whatever they said before.
    history = {
        "reviews": len(reviews),
        "other_reviews": tuple(others),
    }
    return found[number].model_copy(update=history)


def describe_review(review: RecordedReview, rating: HumanRating | None) -> str:
    """What another review of the same bytes came to."""
    name = f"the review of entry {review.opened}"
    if not review.reviewers:
        return f"{name} was by a language model"
    if rating is None:
        return f"{name} was not closed"
    if rating.difference is None:
        return f"{name} showed no difference"
    return f"{name} found a difference of {rating.difference.estimate:+.2f}"


def numbered_reviews(
    origin: Registration, ledger_state: LedgerState
) -> Iterator[tuple[int, RecordedReview]]:
    """The reviews of these bytes from 1 on, closed or not."""
    made = origin.made
    number = 0
    for review in ledger_state.reviews:
        # By the bytes and not by the number: a copy under another one keeps what people found, and
        # a number that MLflow gave out again has nothing of the older version.
        is_same_package = review.package_sha256 == made.package_sha256
        if is_same_package and review.model == made.model:
            number += 1
            yield number, review


def level_of(number: int) -> float:
    """The two-sided level of a review's intervals: 0.95 for the first, 0.975 for the second."""
    # Halves add up to one: all reviews of a version together err in 5 %.
    half = 0.5**number
    tails = 0.1 * half
    return 1 - tails


def counted_ratings(
    version: RatedVersion, ledger_state: LedgerState, recall: Recall
) -> tuple[tuple[ReviewPlan, tuple[Rating, ...]], ...]:
    """Each closed review whose files are whole, with the ratings that count."""
    found = []
    for number, review in numbered_reviews(version.origin, ledger_state):
        read = _read(version, review, recall)
        # What was erased or altered is nobody's rating, and hides none of the others.
        if isinstance(read, str):
            continue
        plan, ratings = read
        count = count_again(
            version,
            plan,
            ratings,
            number,
        )
        names = {rater.name for rater in count.counted}
        counted = tuple(each for each in ratings.ratings if each.reviewer in names)
        found.append((plan, counted))
    return tuple(found)


def rating_of(
    version: RatedVersion, review: RecordedReview, number: int, recall: Recall
) -> HumanRating:
    """What one closed review found; nobody's rating where its files are not what was sealed.

    What the entry itself says against the version then stands: to erase texts takes nothing back.
    """
    read = _read(version, review, recall)
    if isinstance(read, str):
        # By nobody, so that it never passes; and what was found worse stays so without its texts.
        return HumanRating(
            raters=0,
            difference=review.difference,
            safe_share=review.safe_share,
            set_aside=(read,),
        )
    plan, ratings = read
    count = count_again(version, plan, ratings, number)
    rating = summarise(count, plan, ratings)
    return rating.model_copy(update={"is_early": is_early(plan, ratings, review)})


def _read(
    version: RatedVersion, review: RecordedReview, recall: Recall
) -> tuple[ReviewPlan, Ratings] | str:
    """What was sealed and what was rated, or why neither can be taken at its word."""
    read = read_review(review, recall)
    if isinstance(read, str):
        return read
    plan, _ = read
    return find_forgery(plan, version.package) or read


def read_review(
    review: RecordedReview, recall: Recall
) -> tuple[ReviewPlan, Ratings] | str:
    """Plan and ratings as the ledger names them, or why they are not; no package is asked."""
    plan_text = recall(review.plan_sha256)
    ratings_text = recall(review.ratings_sha256 or "")
    if plan_text is None or ratings_text is None:
        return "the ratings were erased"
    plan, ratings = parse_plan(plan_text), parse_ratings(ratings_text)
    if plan is None or ratings is None:
        return "the ratings cannot be read"
    return _find_mismatch(plan, review) or (plan, ratings)


def is_early(plan: ReviewPlan, ratings: Ratings, review: RecordedReview) -> bool:
    """Whether it was closed while ratings were missing that could still have come.

    Whoever closes could wait for a moment that suits. An older plan has no end, so that missing
    ratings could always have come.
    """
    is_whole = len(ratings.ratings) == plan.asked
    if is_whole:
        return False
    end, closed = plan.closes_at, review.closed_at
    if end is None or closed is None:
        return True
    return closed < end


def _find_mismatch(plan: ReviewPlan, review: RecordedReview) -> str:
    # An end that was over at the opening would bind nobody to anything.
    if plan.closes_at is not None and plan.closes_at <= review.at:
        return "the sealed plan ended before it was opened"
    # What the ledger says was rated, and what the plan says.
    sealed = (plan.model, plan.version, plan.package_sha256, plan.reviewers)
    opened = (
        review.model,
        review.version,
        review.package_sha256,
        review.reviewers,
    )
    return "" if sealed == opened else "the sealed plan is that of another review"


def count_again(
    version: RatedVersion, plan: ReviewPlan, ratings: Ratings, number: int
) -> RatingCount:
    """Count a review's ratings by the policy and the people of now."""
    limits = version.policy.gates.judge.human_rating
    demands = demands_of(version.policy, number)
    excluded = find_excluded(
        version.origin,
        plan.reviewers,
        version.people,
        author_may_rate=limits.author_may_rate,
    )
    return count_ratings(
        plan,
        ratings.ratings,
        excluded,
        demands,
    )


def demands_of(policy: Policy, number: int) -> Demands:
    """How ratings are counted in the review, or by the judge, of that number."""
    gates = policy.gates
    resampling = Resampling(
        resamples=gates.screen.resamples,
        seed=gates.screen.seed,
    )
    return Demands(
        caught_share=gates.judge.human_rating.min_planted_caught,
        resampling=resampling,
        level=level_of(number),
    )


def summarise(count: RatingCount, plan: ReviewPlan, ratings: Ratings) -> HumanRating:
    """The numbers that `judge` looks at, and who and what does not count."""
    unheard = [
        f"{rater.name} ({rater.set_aside})" for rater in count.raters if rater.set_aside
    ]
    return HumanRating(
        raters=len(count.counted),
        prompts=count.clusters,
        difference=count.difference,
        safe_share=count.safe_share,
        agreement=count.agreement,
        overlap=count.overlap,
        win_rate=count.win_rate,
        asked=plan.asked,
        missing=plan.asked - len(ratings.ratings),
        altered=len(ratings.altered),
        set_aside=(*unheard, *ratings.dropped),
    )


def find_excluded(
    origin: Registration,
    reviewers: tuple[str, ...],
    people: People,
    *,
    author_may_rate: bool,
) -> dict[str, str]:
    """Why the ratings of some reviewers do not count, by user of MLflow's.

    Without the role reviewer, as the author, and as a person who is counted already.
    """
    excluded: dict[str, str] = {}
    counted: list[str] = []
    for user in reviewers:
        reason = _objection_to(
            user,
            origin,
            people,
            author_may_rate=author_may_rate,
        )
        for other in counted:
            if not reason and _is_one_person(user, other, people):
                reason = f"is the same person as {other}"
        if reason:
            excluded[user] = reason
        else:
            counted.append(user)
    return excluded


def _objection_to(
    user: str, origin: Registration, people: People, *, author_may_rate: bool
) -> str:
    if not people.has_role(user, f"{MLFLOW}{user}", "reviewer"):
        return "does not have the role reviewer"
    if author_may_rate:
        return ""
    # Without the author's account nobody can be told apart from the author.
    if origin.account is None:
        return "cannot be told from the author, whose account is not on record"
    author = people.signed(origin.by, origin.account)
    rater = people.signed(user, f"{MLFLOW}{user}")
    if len(group_by_person((author, rater))) == 1:
        return "trained the version"
    return ""


def _is_one_person(user: str, other: str, people: People) -> bool:
    first = people.signed(user, f"{MLFLOW}{user}")
    second = people.signed(other, f"{MLFLOW}{other}")
    # One human may have several users: their rating counts once.
    persons = group_by_person([first, second])
    return len(persons) == 1
