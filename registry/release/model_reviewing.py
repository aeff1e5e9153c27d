"""A language model rates the items of a review, and what it said is entered, for good."""

from dataclasses import dataclass

from core.errors import ReleaseError
from pipelines.rating.count import count_ratings
from pipelines.rating.item_judge import JudgeIdentity
from pipelines.rating.model_review import ModelOpinions, Replies, rated_by, read_replies
from registry.ledger.entries import ModelRated
from registry.ledger.ledger import Ledger
from registry.release.calibration import RATER, Records
from registry.release.context import append
from registry.release.model_rating import find_bias
from registry.release.rating import RatedVersion, demands_of, numbered_reviews
from registry.release.reviewing import By, SealedReview, read_sealed_plan


@dataclass(frozen=True)
class Entered:
    """What a model said, and the entry that says so."""

    generation: int
    opinions: ModelOpinions
    asked: int


def find_ratable(
    version: RatedVersion, records: Records, judge: JudgeIdentity, by: By
) -> SealedReview:
    """The version's last review; `ReleaseError` where it has none, or that judge rated it.

    Also where a model rates in people's place, and it is the author who has it rate.
    """
    made = version.origin.made
    place = f"version {made.version} of {made.model}"
    reviews = numbered_reviews(version.origin, records.state)
    numbered = list(reviews)
    if not numbered:
        raise ReleaseError(
            f"{place} has no review. `assay review open {made.version} --model {made.model}` asks "
            "people, and `--by-model` opens one for a model alone."
        )
    # The last one, as `assay review close` takes it: an older one was given up.
    number, review = numbered[-1]
    for given in review.model_ratings:
        # Before the model is asked: an answer that cannot be entered is only a temptation.
        if not review.reviewers or given.judge_sha256 == judge.sha256:
            raise ReleaseError(
                f"A model rated the review of {place} already, at entry {given.generation}. "
                "Asked again until it suits, it would show nothing."
            )
    # Beside people it only calibrates: there their ratings show what it is worth.
    bias = "" if review.reviewers else find_bias(version, by.name, by.account)
    if bias:
        raise ReleaseError(
            f"{place} would be rated in people's place, and {bias}. Have somebody else run "
            "`assay review rate-by-model`."
        )
    text = records.recall(review.plan_sha256)
    plan = read_sealed_plan(text, place, "is to be rated")
    return SealedReview(review, plan, number)


def enter_replies(
    version: RatedVersion,
    review: SealedReview,
    replies: Replies,
    by: By,
    ledger: Ledger,
) -> Entered:
    """Enter what the model said of the review's items."""
    plan = review.plan
    opinions = read_replies(plan, replies, RATER)
    # Counted as an audit will count it, so that both come to the same.
    count = count_ratings(
        rated_by(plan, RATER),
        opinions.ratings,
        {},
        demands_of(version.policy, review.number),
    )
    body = ModelRated(
        by=by.name,
        account=by.account,
        model=plan.model,
        version=plan.version,
        package_sha256=plan.package_sha256,
        opened=review.recorded.opened,
        judge_sha256=replies.judge.sha256,
        replies_sha256=ledger.remember(replies.model_dump_json()),
        items=len(opinions.ratings),
        difference=count.difference,
        safe_share=count.safe_share,
    )
    ledger_state = append(ledger, lambda _: body)
    return Entered(ledger_state.head.generation, opinions, len(plan.items))
