"""Versions, their ledger in memory, and reviews of them that people or a model rated."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from core.files import digest_of_text
from pipelines.gates.policy import ModelRatingPolicy, Policy
from pipelines.rating.item_judge import JudgeIdentity, identity_of
from pipelines.rating.model_judge import ModelJudge
from pipelines.rating.model_review import Replies, Reply
from pipelines.rating.plan import Ratings, ReviewPlan
from registry.ledger.entries import ModelRated, Rated, ReviewOpened
from registry.release.judging.circumstances import HumanRating
from registry.release.people import People, Person
from registry.release.rating import RatedVersion, human_rating
from registry.release.reviewing import Extent, plan_review
from tests.support import trials
from tests.support.ledgers import MODEL, Chain, package, registered
from tests.support.ratings import Opinion, rate

RATERS = ("ann", "bob", "eve")
PEOPLE = People(
    people={
        **{name: Person(mlflow=(name,), roles=("reviewer",)) for name in RATERS},
        "lena": Person(mlflow=("lena",), accounts=("5",), roles=("reviewer",)),
        "twin": Person(mlflow=("twin", "double"), roles=("reviewer",)),
    },
    command_line=("author",),
)


def policy(model_rating: ModelRatingPolicy | None = None, **limits: object) -> Policy:
    """The default policy, with other limits on ratings."""
    default = trials.policy()
    judge = default.gates.judge
    rating = judge.human_rating.model_copy(update=limits)
    asked = {"human_rating": rating, "model_rating": model_rating}
    judge = judge.model_copy(update=asked)
    gates = default.gates.model_copy(update={"judge": judge})
    # As few draws as bounds need.
    screen = gates.screen.model_copy(update={"resamples": 1000})
    gates = gates.model_copy(update={"screen": screen})
    return default.model_copy(update={"gates": gates})


JUDGE = identity_of(ModelJudge("http://judge.test/v1", "my-judge"))


def said(
    plan: ReviewPlan,
    opinion: Opinion,
    judge: JudgeIdentity = JUDGE,
    *,
    obeys: bool = False,
) -> Replies:
    """What a model with that opinion says of every item, and of each control."""
    replies = []
    for item in plan.items:
        score, is_safe = opinion(item)
        text = json.dumps({"score": score, "safe": is_safe})
        reply = Reply(item=item.id, answer_sha256=item.answer_sha256, text=text)
        replies.append(reply)
    for item in plan.bad:
        text = json.dumps({"score": 5 if obeys else 1, "safe": True})
        control = Reply(
            item=item.id,
            answer_sha256=item.answer_sha256,
            text=text,
            is_control=True,
        )
        replies.append(control)
    return Replies(judge=judge, replies=tuple(replies))


class Reviewed:
    """A version, its ledger in memory, and the texts beside it."""

    def __init__(self, folder: Path, limits: Policy) -> None:
        self.chain = Chain()
        self.state = self.chain.add(registered())
        self.texts: dict[str, str] = {}
        origin = self.state.registration(MODEL, "1")
        assert origin is not None
        self.version = RatedVersion(origin, folder, PEOPLE, limits)

    def register(self, number: str) -> RatedVersion:
        """Another version, of other bytes."""
        self.state = self.chain.add(registered(number))
        origin = self.state.registration(MODEL, number)
        assert origin is not None
        return replace(self.version, origin=origin)

    def open_for_model(self, version: RatedVersion) -> tuple[ReviewPlan, int]:
        """A review that nobody is asked about; gives its plan and its entry."""
        made = version.origin.made
        plan, _ = plan_review(version, (), Extent(12, 14), self.state)
        later = self.state.at + timedelta(days=14)
        plan = plan.model_copy(update={"closes_at": later})
        bytes_of_it = {"version": made.version, "package_sha256": made.package_sha256}
        return plan, self.open(plan, **bytes_of_it)

    def model_rates(
        self, opened: int, replies: Replies, days: float = 0.0, **changes: object
    ) -> ModelRated:
        """Enter what a model said of the review of that entry, so many days later."""
        (review,) = (each for each in self.state.reviews if each.opened == opened)
        rating = ModelRated(
            by="olga",
            account="7 (olga)",
            model=MODEL,
            version=review.version,
            package_sha256=review.package_sha256,
            opened=opened,
            judge_sha256=replies.judge.sha256,
            replies_sha256=self.seal(replies.model_dump_json()),
            items=0,
        )
        rating = rating.model_copy(update=changes)
        self.state = self.chain.add(rating, later=timedelta(days=days))
        return rating

    def plan(self, days: float = 14, **changes: object) -> ReviewPlan:
        plan, _ = plan_review(self.version, RATERS, Extent(12, days), self.state)
        end = self.state.at + timedelta(days=days)
        return plan.model_copy(update={"closes_at": end, **changes})

    def open(self, plan: ReviewPlan, **changes: object) -> int:
        opening = ReviewOpened(
            by="lena",
            model=MODEL,
            version="1",
            package_sha256=package("1"),
            against=plan.comparator,
            plan_sha256=self.seal(plan.model_dump_json()),
            reviewers=plan.reviewers,
        )
        self.state = self.chain.add(opening.model_copy(update=changes))
        return self.chain.last

    def seal(self, text: str) -> str:
        digest = digest_of_text(text)
        self.texts[digest] = text
        return digest

    def close(self, opened: int, ratings: Ratings, days: float) -> Rated:
        (review,) = (each for each in self.state.reviews if each.opened == opened)
        closing = Rated(
            by="lena",
            model=MODEL,
            version=review.version,
            package_sha256=review.package_sha256,
            opened=opened,
            ratings_sha256=self.seal(ratings.model_dump_json()),
            raters=3,
            prompts=12,
        )
        self.state = self.chain.add(closing, later=timedelta(days=days))
        return closing

    def review(self, opinions: dict[str, Opinion], days: float = 1) -> ReviewPlan:
        """Open, rate, and close so many days later."""
        plan = self.plan()
        opened = self.open(plan)
        self.close(opened, Ratings(ratings=rate(plan, **opinions)), days)
        return plan

    def rating(self) -> HumanRating:
        found = human_rating(self.version, self.state, self.texts.get)
        assert found is not None
        return found
