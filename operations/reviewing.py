"""`assay review`: people rate a version's answers blind, in MLflow's own pages."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.errors import ParameterError, ReleaseError
from core.files import write_jsonl
from operations.reviewed_version import ReviewedVersion, reviewed_version

if TYPE_CHECKING:
    from pipelines.rating.collect import Found
    from pipelines.rating.model_count import ModelRating
    from pipelines.rating.model_judge import ModelJudge
    from pipelines.rating.plan import ReviewPlan
    from registry.mlflow.store import Store
    from registry.release.rating import RatedVersion
    from registry.release.reviewing import Closed, Extent

MODEL_AGREEMENT = 0.4
"""Krippendorff's alpha that a model has to reach with people where the policy names none."""
PROMPTS = 40
"""Rated prompts, unless somebody asks for another number: some half an hour for each person."""


@dataclass(frozen=True)
class Opened:
    """A review that people can begin with."""

    generation: int
    reviewers: tuple[str, ...]
    items: int
    against: str
    address: str
    """The page of the experiment that holds the queues; empty where no server is known."""
    until: datetime | None
    """What is rated later does not count."""


def open_review(
    model: str, version: str, reviewers: tuple[str, ...], extent: "Extent"
) -> Opened:
    """Draw answers, seal what they are, and give each reviewer a queue of them in MLflow.

    `ReleaseError` where the ledger does not know the version, or somebody may not rate it;
    `ParameterError` without any reviewer.
    """
    set_library_environment()
    with reviewed_version(model, version) as subject:
        rated = subject.version
        # Where nobody is named, everybody who may rate is asked.
        asked = reviewers or _everybody(rated)
        _check_reviewers(asked, rated)
        return open_for(subject, asked, extent)


def open_for(
    subject: ReviewedVersion, asked: tuple[str, ...], extent: "Extent"
) -> Opened:
    """Open a review for these users, or for a language model where nobody is asked."""
    from registry.release.reviewing import By, enter_opening, plan_review

    ledger_state = subject.ledger.state()
    plan, shown = plan_review(
        subject.version,
        asked,
        extent,
        ledger_state,
    )
    # Before the entry: a review that nobody can reach must not be on record.
    _let_in(subject, asked)
    by = By(subject.identity.by, subject.identity.account)
    # Before anybody sees an item: what it is must be beyond doubt by then.
    generation = enter_opening(plan, by, subject.ledger)
    title = f"{plan.model} version {plan.version}, review {generation}"
    subject.store.reviews.publish(title, shown, asked)
    return Opened(
        generation=generation,
        reviewers=asked,
        items=len(shown),
        against=plan.comparator,
        address=_address(subject.store),
        until=plan.closes_at,
    )


def close_review(model: str, version: str, *, unfinished: bool) -> "Closed":
    """Enter the ratings of the version's open review, for good.

    `ReleaseError` where none is open, or somebody has not finished and `unfinished` is not set.
    """
    set_library_environment()
    from registry.release.reviewing import By, close, find_open

    with reviewed_version(model, version) as subject:
        # By the ledger and not by MLflow, where anybody could make a queue.
        review = find_open(subject.version, subject.ledger)
        found = _read(subject, review.plan)
        return close(
            subject.version,
            review,
            found,
            By(subject.identity.by, subject.identity.account),
            subject.ledger,
            is_unfinished_allowed=unfinished,
        )


def unfinished_of(model: str, version: str) -> dict[str, int]:
    """How many items each reviewer of the open review has left; nobody where all are done."""
    set_library_environment()
    from pipelines.rating.collect import collect_ratings, find_unfinished
    from registry.release.reviewing import find_open

    with reviewed_version(model, version) as subject:
        review = find_open(subject.version, subject.ledger)
        plan = review.plan
        found = _read(subject, plan)
        # As closing will count them: what does not count is still to be done.
        ratings = collect_ratings(plan, found)
        return find_unfinished(plan, ratings.ratings)


def export_pairs(model: str, version: str, out: Path) -> int:
    """Write the rated pairs of every closed review for preference training; gives their number.

    `ReleaseError` where no review of the version was closed.
    """
    set_library_environment()
    from pipelines.rating.pairs import preference_rows
    from registry.release.rated_answers import questions_of
    from registry.release.rating import counted_ratings

    with reviewed_version(model, version) as subject:
        rated = subject.version
        ledger = subject.ledger
        closed = counted_ratings(
            rated,
            ledger.state(),
            ledger.recall,
        )
        if not closed:
            raise ReleaseError(
                f"No review of version {version} of {model} was closed. "
                "`assay review close` enters what people rated."
            )
        rows: list[dict[str, object]] = []
        for plan, ratings in closed:
            questions = questions_of(rated.package, plan.comparator)
            by_id = {question.prompt.id: question for question in questions}
            rows += preference_rows(plan, ratings, by_id)
    write_jsonl(out, rows)
    return len(rows)


def rate_with_model(
    model: str, version: str, judge: "ModelJudge", prompts: int
) -> "ModelRating":
    """Have a language model rate the answers that people rated, and more up to that many prompts.

    It is shown beside what people found and decides nothing. `ReleaseError` where no review of the
    version was closed: nothing says then whether the model rates as people do.
    """
    set_library_environment()
    from pipelines.rating.model_count import Calibration, people_of, rate_by_model
    from pipelines.values.evidence import Resampling
    from registry.release.rated_answers import comparator_of, questions_of
    from registry.release.rating import counted_ratings

    with reviewed_version(model, version) as subject:
        rated = subject.version
        reviews = counted_ratings(rated, subject.ledger.state(), subject.ledger.recall)
        people = people_of(reviews)
        if not people:
            raise ReleaseError(
                f"Nobody's ratings of version {version} of {model} count, so that a model cannot "
                "be compared with people. Have it rated first: `assay review open`."
            )
        comparator = comparator_of(rated.package)
        questions = questions_of(rated.package, comparator)
        gates = rated.policy.gates
        limits = gates.judge.human_rating
        screen = gates.screen
        # One person alone is asked for no agreement; a model is.
        least = limits.min_agreement or MODEL_AGREEMENT
        resampling = Resampling(resamples=screen.resamples, seed=screen.seed)
        calibration = Calibration(people, least, resampling)
    known = {prompt_id for prompt_id, _ in people}
    # What people rated first: it is all that shows whether the model can be believed.
    ordered = sorted(questions, key=lambda each: each.prompt.id not in known)
    asked = ordered[: max(prompts, len(known))]
    return rate_by_model(judge, asked, calibration)


def _read(subject: ReviewedVersion, plan: "ReviewPlan") -> "Found":
    """What people wrote, and what of the plan MLflow shows otherwise than it was sealed."""
    from pipelines.rating.collect import Found
    from pipelines.rating.seen import find_altered

    items = [item.id for item in plan.items]
    reviews = subject.store.reviews
    # The texts last: whoever changes one after that changes nothing that is counted.
    written = reviews.read(items)
    seen = reviews.read_texts(items)
    altered = find_altered(plan.items, seen)
    return Found(written=written, altered=altered)


def _everybody(version: "RatedVersion") -> tuple[str, ...]:
    """A user of MLflow's of each person who may rate the version, in order."""
    people = version.people
    # One user of each person: two queues would make one human two raters.
    users: list[str] = []
    for name in people.list_with_role("reviewer"):
        person = people.people[name]
        users += person.mlflow[:1]
    excluded = _excluded(tuple(users), version)
    return tuple(user for user in users if user not in excluded)


def _check_reviewers(users: tuple[str, ...], version: "RatedVersion") -> None:
    if not users:
        raise ParameterError(
            "Nobody can rate the version: people.yaml gives the role reviewer to no user of "
            "MLflow's besides its author. Add somebody there."
        )
    for user, reason in _excluded(users, version).items():
        raise ReleaseError(
            f"{user!r} {reason}, so that their ratings would not count. "
            "Name somebody else, or correct people.yaml."
        )


def _excluded(users: tuple[str, ...], version: "RatedVersion") -> dict[str, str]:
    from registry.release.rating import find_excluded

    limits = version.policy.gates.judge.human_rating
    return find_excluded(
        version.origin,
        users,
        version.people,
        author_may_rate=limits.author_may_rate,
    )


def _let_in(subject: ReviewedVersion, users: tuple[str, ...]) -> None:
    """Let them rate in the home's own MLflow; a team's server is its admin's."""
    from registry.mlflow.accounts import let_review

    reviews = subject.store.reviews
    experiment = reviews.experiment()
    home = subject.project.home
    let_review(
        home,
        users,
        experiment,
    )


def _address(store: "Store") -> str:
    address = store.address
    # Without a server there is no page yet: `assay ui` starts one.
    if not address.startswith("http"):
        return ""
    reviews = store.reviews
    experiment = reviews.experiment()
    return f"{address}/#/experiments/{experiment}/review-queue"
