"""`assay review open --by-model` and `rate-by-model`: a language model rates, and it is entered."""

from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.errors import ReleaseError
from operations.reviewed_version import ReviewedVersion, reviewed_version
from operations.reviewing import Opened, open_for

if TYPE_CHECKING:
    from pipelines.rating.model_judge import ModelJudge
    from pipelines.rating.plan import ItemId, ReviewPlan
    from pipelines.rating.seen import Seen
    from registry.release.model_reviewing import Entered
    from registry.release.reviewing import Extent


def open_model_review(model: str, version: str, extent: "Extent") -> Opened:
    """Draw answers and seal what they are, for a language model alone.

    `ReleaseError` where people were asked about the version, or the policy lets no model rate.
    """
    set_library_environment()
    with reviewed_version(model, version) as subject:
        limits = subject.version.policy.gates.judge
        # Refused before a try is spent on it.
        if limits.model_rating is None:
            raise ReleaseError(
                f"The policy of {model} lets no language model rate in people's place: "
                "`judge.model_rating` is null."
            )
        return open_for(subject, (), extent)


def enter_model_rating(model: str, version: str, judge: "ModelJudge") -> "Entered":
    """Have a language model rate the items of the version's last review, and enter what it said.

    `ReleaseError` where there is no review, the version's author asks, that judge rated it already,
    MLflow shows other texts than were sealed, or the address gives no reply: then nothing is
    entered.
    """
    set_library_environment()
    from pipelines.rating.item_judge import identity_of
    from pipelines.rating.model_judge import NoScores
    from pipelines.rating.model_review import ask_model
    from registry.release.calibration import Records
    from registry.release.model_reviewing import enter_replies, find_ratable
    from registry.release.reviewing import By

    identity = identity_of(judge)
    with reviewed_version(model, version) as subject:
        ledger = subject.ledger
        records = Records(ledger.state(), ledger.recall)
        by = By(subject.identity.by, subject.identity.account)
        review = find_ratable(
            subject.version,
            records,
            identity,
            by,
        )
        # Before the model is asked: of altered texts it would rate something else.
        texts = _sealed_texts(subject, review.plan)
        try:
            replies = ask_model(judge, identity, review.plan, texts)
        except NoScores as error:
            raise ReleaseError(
                f"The model {judge.model!r} {error}, so that nothing was entered. "
                "See that its address answers, and have it rate again."
            ) from error
        return enter_replies(subject.version, review, replies, by, ledger)


def _sealed_texts(subject: ReviewedVersion, plan: "ReviewPlan") -> "dict[ItemId, Seen]":
    """What MLflow shows of each item, which has to be what was sealed."""
    from pipelines.rating.seen import find_altered

    items = [item.id for item in plan.items]
    texts = subject.store.reviews.read_texts(items)
    altered = find_altered(plan.items, texts)
    missing = len(items) - len(texts)
    if altered or missing:
        raise ReleaseError(
            f"MLflow shows {len(altered)} items of the review otherwise than they were sealed, "
            f"and {missing} not at all. Find out who changed them, and open another review."
        )
    return texts
