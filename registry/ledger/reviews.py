"""Reviews of answers: opened with a sealed plan, closed once with what people rated.

Where nobody was asked, a language model rates in the place of people, once.

Steps of `registry.ledger.rules`.
"""

from registry.ledger.entries import Entry, ModelRated, Rated, ReviewOpened
from registry.ledger.state import LedgerState, RecordedModelRating, RecordedReview
from registry.ledger.steps import illegal


def review_opened(
    ledger_state: LedgerState, entry: Entry, body: ReviewOpened
) -> LedgerState:
    """Open a review of these very bytes; one that is open still comes to nothing."""
    _check_bytes(ledger_state, entry, body)
    if len(set(body.reviewers)) != len(body.reviewers):
        raise illegal(entry, "a reviewer is named twice")
    # A plan is drawn by chance each time: the same one again is a second closing of it.
    for earlier in ledger_state.reviews:
        if earlier.plan_sha256 == body.plan_sha256:
            raise illegal(
                entry, f"entry {earlier.opened} opened a review with the same plan"
            )
    review = RecordedReview(
        opened=entry.generation,
        at=entry.at,
        model=body.model,
        version=body.version,
        package_sha256=body.package_sha256,
        plan_sha256=body.plan_sha256,
        reviewers=body.reviewers,
        key_ids=(entry.key_id,),
    )
    reviews = (*ledger_state.reviews, review)
    return ledger_state.model_copy(update={"reviews": reviews})


def rated(ledger_state: LedgerState, entry: Entry, body: Rated) -> LedgerState:
    """Close the open review of that version."""
    _check_bytes(ledger_state, entry, body)
    # Closed once: nobody rates again until it suits.
    review = ledger_state.open_review(body.model, body.version)
    if review is None or review.opened != body.opened:
        raise illegal(
            entry,
            f"the review of entry {body.opened} is not the open one of version "
            f"{body.version} of {body.model}",
        )
    if review.package_sha256 != body.package_sha256:
        raise illegal(entry, f"entry {review.opened} is about other bytes than these")
    if not review.reviewers:
        raise illegal(entry, f"entry {review.opened} asked nobody, but a model")
    # Both keys: a stolen one could have made either entry.
    closing = {
        "rated": entry.generation,
        "closed_at": entry.at,
        "ratings_sha256": body.ratings_sha256,
        "difference": body.difference,
        "safe_share": body.safe_share,
        "key_ids": (*review.key_ids, entry.key_id),
    }
    closed = review.model_copy(
        update=closing,
    )
    return _with_review(ledger_state, review, closed)


def model_rated(
    ledger_state: LedgerState, entry: Entry, body: ModelRated
) -> LedgerState:
    """Keep what a language model said of a review's items, open or closed."""
    _check_bytes(ledger_state, entry, body)
    review = _review_of(ledger_state, body)
    if review is None:
        raise illegal(
            entry,
            f"entry {body.opened} opened no review of version {body.version} of {body.model}",
        )
    for earlier in review.model_ratings:
        # Asked again until it suits; in the place of people no other one is asked either.
        if not review.reviewers or earlier.judge_sha256 == body.judge_sha256:
            raise illegal(
                entry,
                f"a model rated that review already, at entry {earlier.generation}",
            )
    given = RecordedModelRating(
        generation=entry.generation,
        at=entry.at,
        judge_sha256=body.judge_sha256,
        replies_sha256=body.replies_sha256,
        difference=body.difference,
        safe_share=body.safe_share,
        by=body.by,
        account=body.account,
        key_id=entry.key_id,
    )
    ratings = (*review.model_ratings, given)
    rated_review = review.model_copy(update={"model_ratings": ratings})
    return _with_review(ledger_state, review, rated_review)


def _review_of(ledger_state: LedgerState, body: ModelRated) -> RecordedReview | None:
    for review in ledger_state.reviews_of(body.model, body.version):
        is_same_package = review.package_sha256 == body.package_sha256
        if is_same_package and review.opened == body.opened:
            return review
    return None


def _with_review(
    ledger_state: LedgerState, review: RecordedReview, changed: RecordedReview
) -> LedgerState:
    reviews = tuple(
        # By identity: two reviews of the same bytes look alike.
        changed if each is review else each
        for each in ledger_state.reviews
    )
    return ledger_state.model_copy(update={"reviews": reviews})


def _check_bytes(
    ledger_state: LedgerState, entry: Entry, body: ReviewOpened | Rated | ModelRated
) -> None:
    registration = ledger_state.registration(body.model, body.version)
    if registration is None:
        raise illegal(
            entry, f"the ledger does not know version {body.version} of {body.model}"
        )
    # MLflow's numbers begin again where it was lost: people rate the answers of bytes.
    if registration.made.package_sha256 != body.package_sha256:
        raise illegal(
            entry, f"entry {registration.generation} registered other bytes than these"
        )
