"""Whether a language model rates as people do: asked of a review that both rated.

```
an earlier review of the model ─► people's ratings that count ─┐
the same judge's replies about the same items ─────────────────┴─► Calibrated, or why there is none
```

The latest such review counts and not the best one: behind an address another model may answer now.
Where several judges rated the same review, each has half the error of the one before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from core.address import shown
from pipelines.rating.count import Rater, count_ratings
from pipelines.rating.item_judge import JudgeIdentity
from pipelines.rating.model_review import (
    Replies,
    agreement_with_people,
    parse_replies,
    rated_by,
    read_replies,
)
from pipelines.rating.plan import Rating, Ratings, ReviewPlan
from registry.ledger.state import LedgerState, RecordedModelRating, RecordedReview
from registry.release.rated_by_model import Calibrated
from registry.release.rating import (
    RatedVersion,
    Recall,
    count_again,
    demands_of,
    is_early,
    read_review,
)

RATER = "the model"
"""Under which name a model's ratings are counted: no user of MLflow's has a space in it."""


@dataclass(frozen=True)
class Records:
    """The ledger, and the texts beside it."""

    state: LedgerState
    recall: Recall


@dataclass(frozen=True)
class RatedByBoth:
    """A review that people and a model rated, and how manieth judge that model was."""

    review: RecordedReview
    given: RecordedModelRating
    judge_number: int

    def is_before(self, given: RecordedModelRating) -> bool:
        """Whether people and the model had both rated it when `given` was entered."""
        closed = self.review.rated or 0
        return max(closed, self.given.generation) < given.generation


def replies_of(given: RecordedModelRating, records: Records) -> Replies | None:
    """What the model said; None where it was erased, or is not what the entry names."""
    digest = given.replies_sha256
    text = records.recall(digest)
    # An erased text is as unreadable as a broken one: neither shows anything.
    replies = parse_replies(text or "")
    if replies is None:
        return None
    # Else a judge could borrow the words of a better one.
    judge = replies.judge
    is_same_judge = judge.sha256 == given.judge_sha256
    return replies if is_same_judge else None


def name_of(judge: JudgeIdentity) -> str:
    """The judge as a person reads it: its name and where it is, without any login."""
    place = shown(judge.address)
    return f"{judge.model} at {place}"


def find_calibration(
    version: RatedVersion, given: RecordedModelRating, records: Records
) -> Calibrated | str:
    """The latest calibration of the judge that rated `given`, or why there is none."""
    latest = next(list_calibrations(version, given, records), None)
    if latest is not None:
        return latest
    model = version.origin.made.model
    others = []
    # Only to name what there is: the next step depends on it.
    for review in _closed_reviews(model, records.state):
        for other in review.model_ratings:
            replies = replies_of(other, records)
            if replies is not None:
                others.append(replies.judge)
    return _explain_missing(model, replies_of(given, records), others)


def list_calibrations(
    version: RatedVersion, given: RecordedModelRating, records: Records
) -> Iterator[Calibrated | str]:
    """Those of the judge that rated `given`, latest first, back to the one that it had then."""
    model = version.origin.made.model
    for review in _closed_reviews(model, records.state):
        for number, earlier in enumerate(review.model_ratings, 1):
            if earlier.judge_sha256 != given.judge_sha256:
                continue
            both = RatedByBoth(review, earlier, number)
            yield calibrate(version, both, records)
            # Of older ones nothing was known any more when it rated.
            if both.is_before(given):
                return


def _closed_reviews(model: str, ledger_state: LedgerState) -> list[RecordedReview]:
    reviews = reversed(ledger_state.reviews)
    return [each for each in reviews if each.model == model and each.rated is not None]


def _explain_missing(
    model: str, own: Replies | None, others: list[JudgeIdentity]
) -> str:
    step = (
        f"have people rate a version of {model}, close the review, and have the model rate it: "
        "`assay review rate-by-model`"
    )
    for other in others:
        is_same_place = own is not None and (other.address, other.model) == (
            own.judge.address,
            own.judge.model,
        )
        if is_same_place:
            return f"it was calibrated with other words than it was asked with: {step}"
    if others:
        return f"the ledger holds a calibration of {name_of(others[0])} alone: {step}"
    return f"the ledger holds no calibration of it: {step}"


def calibrate(
    version: RatedVersion, both: RatedByBoth, records: Records
) -> Calibrated | str:
    """How far the model agrees with the people of a closed review, or why nobody can say."""
    review = both.review
    place = f"the calibration of entry {review.opened}"
    read = read_review(review, records.recall)
    replies = replies_of(both.given, records)
    if isinstance(read, str) or replies is None:
        return (
            f"the texts of {place} were erased, or cannot be read: calibrate it again"
        )
    plan, _ = read
    if plan.criteria_sha256 != replies.judge.criteria_sha256:
        return f"in {place} people were asked by other criteria: calibrate it again"
    origin = records.state.registration(review.model, review.version)
    # MLflow's numbers begin again where it was lost, and another author's would be asked for.
    if origin is None or origin.made.package_sha256 != review.package_sha256:
        return f"the version of {place} is not on record any more: calibrate it again"
    # Whose ratings count is asked of that version's author.
    return _compare(replace(version, origin=origin), both, read, replies)


def _compare(
    version: RatedVersion,
    both: RatedByBoth,
    read: tuple[ReviewPlan, Ratings],
    replies: Replies,
) -> Calibrated:
    plan, ratings = read
    people = _people_who_count(version, plan, ratings)
    opinions = read_replies(plan, replies, RATER)
    demands = demands_of(version.policy, both.judge_number)
    agreement = agreement_with_people(
        plan,
        people,
        opinions.ratings,
        demands.resampling,
        demands.level,
    )
    rater = count_model(version, plan, opinions.ratings)
    review, given = both.review, both.given
    closed_at = review.closed_at or review.at
    return Calibrated(
        opened=review.opened,
        version=review.version,
        items=agreement.items,
        people=len({rating.reviewer for rating in people}),
        agreement=agreement.alpha,
        caught=rater.caught,
        planted=len(plan.bad),
        is_early=is_early(plan, ratings, review),
        # The older of both: people's eyes and the model behind an address change.
        at=min(closed_at, given.at),
    )


def _people_who_count(
    version: RatedVersion, plan: ReviewPlan, ratings: Ratings
) -> list[Rating]:
    # The number only widens intervals, and who counts does not follow from them.
    count = count_again(version, plan, ratings, number=1)
    names = {rater.name for rater in count.counted}
    return [rating for rating in ratings.ratings if rating.reviewer in names]


def count_model(
    version: RatedVersion, plan: ReviewPlan, ratings: tuple[Rating, ...]
) -> Rater:
    """The model as one of those who rate: what it caught of what was planted."""
    demands = demands_of(version.policy, 1)
    count = count_ratings(rated_by(plan, RATER), ratings, {}, demands)
    return count.raters[0]
