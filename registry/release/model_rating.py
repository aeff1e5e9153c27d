"""What a language model's ratings of a version come to, counted again from what it said.

```
entry review_opened, by nobody ─► sealed plan ─────┐
entry model_rated ────────────► replies, as said ──┴─► RatedByModel, which `judge` looks at
```

Where people were asked about these bytes people decide: a model stands in for nobody who was asked.
"""

from core.account import group_by_person
from pipelines.rating.count import count_ratings
from pipelines.rating.model_review import Replies, rated_by, read_replies
from pipelines.rating.plan import ReviewPlan, parse_plan
from registry.ledger.state import RecordedModelRating, RecordedReview
from registry.release.calibration import (
    RATER,
    Records,
    find_calibration,
    list_calibrations,
    name_of,
    replies_of,
)
from registry.release.rated_answers import find_forgery
from registry.release.rated_by_model import (
    Calibrated,
    RatedByModel,
    find_against,
    find_model_objection,
)
from registry.release.rating import (
    RatedVersion,
    demands_of,
    numbered_reviews,
)


def model_rating(version: RatedVersion, records: Records) -> RatedByModel | None:
    """What a model found in people's place; None where none was asked, or where people were."""
    reviews = list(numbered_reviews(version.origin, records.state))
    # Whoever was asked decides: a review that goes badly must not be left for a model's.
    if any(review.reviewers for _, review in reviews):
        return None
    latest = None
    for number, review in reviews:
        for given in review.model_ratings:
            found = _rating_of(version, (number, review), given, records)
            found = found.model_copy(update={"reviews": len(reviews)})
            # One that found it worse decides, whichever came last.
            objecting = _find_objecting(found, version, given, records)
            if objecting is not None:
                return objecting
            latest = found
    return latest


def _find_objecting(
    found: RatedByModel,
    version: RatedVersion,
    given: RecordedModelRating,
    records: Records,
) -> RatedByModel | None:
    """The rating with a calibration by which it speaks against the version; None where none does.

    Any one since it rated will do. Else whoever dislikes what it found opens another review, has
    it closed at once, and no calibration counts any more.
    """
    limits = version.policy.gates.judge
    # Each calibration takes time to count, and most judges find nothing against a version.
    if not find_against(found, limits):
        return None
    for calibration in list_calibrations(version, given, records):
        if isinstance(calibration, Calibrated):
            changes = {"calibration": calibration, "uncalibrated": ""}
            each = found.model_copy(update=changes)
            if find_model_objection(each, limits):
                return each
    return None


def find_bias(version: RatedVersion, by: str, account: str | None) -> str:
    """Why this person cannot have a model rate in people's place; empty where they can.

    They choose what answers behind the address, so that the rating is theirs as much as its own.
    """
    if version.policy.gates.judge.human_rating.author_may_rate:
        return ""
    origin = version.origin
    # Without both accounts nobody can be told apart from the author.
    if account is None or origin.account is None:
        return f"{by!r}, who has it rate, cannot be told from the author"
    people = version.people
    author = people.signed(origin.by, origin.account)
    person = people.signed(by, account)
    if len(group_by_person((author, person))) == 1:
        return f"{by!r}, who has it rate, trained the version"
    return ""


def _rating_of(
    version: RatedVersion,
    numbered: tuple[int, RecordedReview],
    given: RecordedModelRating,
    records: Records,
) -> RatedByModel:
    number, review = numbered
    found = _as_entered(version, given, records)
    plan = parse_plan(records.recall(review.plan_sha256) or "")
    replies = replies_of(given, records)
    if plan is None or replies is None:
        fault = "what it said was erased, or cannot be read: open another review"
        return found.model_copy(update={"fault": fault})
    named = found.model_copy(update={"judge": name_of(replies.judge)})
    fault = find_forgery(plan, version.package)
    # Not asked of a calibration: people's ratings of the same answers speak for that one.
    fault = fault or find_bias(version, given.by, given.account)
    if fault:
        return named.model_copy(update={"fault": fault})
    return _counted(named, version, (number, plan), replies)


def _as_entered(
    version: RatedVersion, given: RecordedModelRating, records: Records
) -> RatedByModel:
    """What the entry alone says: to erase what the model said takes nothing back."""
    calibration = find_calibration(version, given, records)
    facts = {
        "generation": given.generation,
        "judge": f"of digest {given.judge_sha256[:12]}",
        "difference": given.difference,
        "safe_share": given.safe_share,
    }
    if isinstance(calibration, Calibrated):
        return RatedByModel(calibration=calibration, **facts)
    return RatedByModel(uncalibrated=calibration, **facts)


def _counted(
    found: RatedByModel,
    version: RatedVersion,
    numbered: tuple[int, ReviewPlan],
    replies: Replies,
) -> RatedByModel:
    number, plan = numbered
    opinions = read_replies(plan, replies, RATER)
    count = count_ratings(
        rated_by(plan, RATER),
        opinions.ratings,
        {},
        demands_of(version.policy, number),
    )
    rater = count.raters[0]
    counted = {
        "asked": len(plan.items),
        "missing": len(plan.items) - len(opinions.ratings),
        "prompts": count.clusters,
        "difference": count.difference,
        "safe_share": count.safe_share,
        "caught": rater.caught,
        "planted": count.planted,
        "obeyed": opinions.obeyed,
    }
    return found.model_copy(update=counted)
