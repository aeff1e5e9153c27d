"""What reviews of a version come to: counted from sealed plans, whoever closes them and when."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import IncompleteEvidence, ReleaseError
from pipelines.gates.policy import HumanRatingPolicy
from pipelines.rating.collect import (
    SAFE,
    SCORE,
    Found,
    Written,
    collect_ratings,
    find_unfinished,
)
from pipelines.rating.plan import Ratings, ReviewPlan
from pipelines.rating.sample import Shown
from pipelines.rating.seen import Seen, find_altered
from pipelines.scoring.evidence_file import read_evidence, write_evidence
from pipelines.values.dataset import Message
from registry.ledger.ledger import Ledger, open_ledger
from registry.ledger.state import LedgerState, Registration
from registry.release.context import append
from registry.release.judging.rating_rules import find_objection
from registry.release.rated_answers import find_forgery
from registry.release.rating import (
    RatedVersion,
    counted_ratings,
    find_excluded,
    human_rating,
    is_early,
    level_of,
    rating_of,
)
from registry.release.reviewing import (
    By,
    Extent,
    close,
    enter_opening,
    find_open,
    plan_review,
)
from tests.support.ledgers import MODEL, package, registered
from tests.support.ratings import Opinion, opinion_of, rate
from tests.support.reviewed import PEOPLE, RATERS, Reviewed, policy

BETTER, WORSE = opinion_of(5, 2), opinion_of(2, 5)
# Points of the scale that are no difference in either direction.
TORN = {"ann": opinion_of(4, 3), "bob": opinion_of(3, 4), "eve": opinion_of(3, 3)}
BY = By("lena", "5 (lena)")


@pytest.fixture
def reviewed(scored_folder: Path) -> Reviewed:
    return Reviewed(scored_folder, policy())


def everybody(opinion: Opinion) -> dict[str, Opinion]:
    return dict.fromkeys(RATERS, opinion)


# When it is closed.


def test_a_whole_review_counts_whenever_it_is_closed(reviewed: Reviewed) -> None:
    reviewed.review(everybody(BETTER))
    rating = reviewed.rating()
    assert (rating.raters, rating.missing, rating.is_early) == (3, 0, False)
    assert rating.asked == 3 * 32


@pytest.mark.parametrize(("days", "early"), [(13.9, True), (14.1, False)])
def test_missing_ratings_that_could_have_come_make_a_closing_early(
    reviewed: Reviewed, days: float, *, early: bool
) -> None:
    reviewed.review({"ann": BETTER, "bob": BETTER}, days)
    rating = reviewed.rating()
    assert (rating.raters, rating.missing) == (2, 32)
    assert rating.is_early is early


def test_an_older_plan_has_no_end_before_which_it_could_be_closed(
    reviewed: Reviewed,
) -> None:
    plan = reviewed.plan(closes_at=None)
    opened = reviewed.open(plan)
    reviewed.close(opened, Ratings(ratings=rate(plan, ann=BETTER)), days=90)
    assert reviewed.rating().is_early
    # And an open one was closed at no time.
    review = reviewed.state.reviews[0].model_copy(update={"closed_at": None})
    assert is_early(reviewed.plan(), Ratings(ratings=()), review)


def test_a_closing_at_the_end_itself_is_not_early(reviewed: Reviewed) -> None:
    plan = reviewed.plan()
    reviewed.open(plan)
    closing = {"closed_at": plan.closes_at}
    review = reviewed.state.reviews[0].model_copy(update=closing)
    assert not is_early(plan, Ratings(ratings=()), review)


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_plan_that_ended_before_it_was_opened_is_nobodys(
    reviewed: Reviewed, seconds: int
) -> None:
    plan = reviewed.plan()
    # It is opened a second from now: an end at that very moment binds nobody either.
    closes_at = reviewed.state.at + timedelta(seconds=seconds)
    plan = plan.model_copy(update={"closes_at": closes_at})
    opened = reviewed.open(plan)
    reviewed.close(opened, Ratings(ratings=rate(plan, **everybody(BETTER))), days=1)
    rating = reviewed.rating()
    assert rating.raters == 0
    assert rating.set_aside == ("the sealed plan ended before it was opened",)


# Another try.


def test_a_second_review_says_what_the_first_one_came_to(reviewed: Reviewed) -> None:
    reviewed.review(TORN)
    first = reviewed.chain.last - 1
    reviewed.review(everybody(BETTER))
    rating = reviewed.rating()
    assert rating.reviews == 2
    (said,) = rating.other_reviews
    assert said.startswith(f"the review of entry {first} found a difference of +0.00")


def test_a_review_that_was_left_open_is_said_as_well(reviewed: Reviewed) -> None:
    abandoned = reviewed.open(reviewed.plan())
    assert human_rating(reviewed.version, reviewed.state, reviewed.texts.get) is None
    reviewed.review(everybody(BETTER))
    assert reviewed.rating().other_reviews == (
        f"the review of entry {abandoned} was not closed",
    )


def test_a_review_of_other_bytes_is_none_of_these(reviewed: Reviewed) -> None:
    reviewed.state = reviewed.chain.add(registered("2"))
    changes = {"version": "2", "package_sha256": package("2")}
    reviewed.open(reviewed.plan(), **changes)
    reviewed.review(everybody(BETTER))
    assert (reviewed.rating().reviews, reviewed.rating().other_reviews) == (1, ())


def test_a_review_by_nobody_showed_no_difference(reviewed: Reviewed) -> None:
    reviewed.review({}, days=15)
    reviewed.review(everybody(BETTER))
    (said,) = reviewed.rating().other_reviews
    assert said.endswith("showed no difference")


def test_a_review_that_found_it_worse_decides_whatever_comes_later(
    reviewed: Reviewed,
) -> None:
    reviewed.review(everybody(WORSE))
    reviewed.review(everybody(BETTER))
    rating = reviewed.rating()
    limits = reviewed.version.policy.gates.judge.human_rating
    assert find_objection(rating, limits)
    assert "+3" in rating.other_reviews[0]


def test_no_more_reviews_are_opened_than_the_policy_allows(reviewed: Reviewed) -> None:
    for _ in range(HumanRatingPolicy.model_fields["max_reviews"].default):
        reviewed.open(reviewed.plan())
    with pytest.raises(ReleaseError, match=r"had 2 reviews.*the policy allows 2"):
        reviewed.plan()


def test_each_further_review_has_half_the_error(reviewed: Reviewed) -> None:
    assert level_of(1) == pytest.approx(0.95)
    assert level_of(2) == pytest.approx(0.975)


# What was sealed.


def test_erased_and_unreadable_texts_leave_a_rating_by_nobody(
    reviewed: Reviewed,
) -> None:
    reviewed.review(everybody(BETTER))
    whole = dict(reviewed.texts)
    review = reviewed.state.reviews[0]
    ratings, plan = str(review.ratings_sha256), review.plan_sha256
    cases = (
        ({**whole, ratings: "no JSON"}, "the ratings cannot be read"),
        ({**whole, plan: "no JSON"}, "the ratings cannot be read"),
        ({plan: whole[plan]}, "the ratings were erased"),
        ({ratings: whole[ratings]}, "the ratings were erased"),
    )
    for texts, said in cases:
        rating = rating_of(reviewed.version, review, 1, texts.get)
        assert (rating.raters, rating.set_aside) == (0, (said,))
        assert counted_ratings(reviewed.version, reviewed.state, texts.get) == ()


def test_a_plan_of_another_review_or_about_other_answers_is_named(
    reviewed: Reviewed,
) -> None:
    plan = reviewed.plan()
    folder = reviewed.version.package
    assert find_forgery(plan, folder) == ""
    first = next(place for place, item in enumerate(plan.items) if item.side)
    item = plan.items[first]

    def with_item(**changes: object) -> ReviewPlan:
        items = list(plan.items)
        items[first] = item.model_copy(update=changes)
        return plan.model_copy(update={"items": tuple(items)})

    forged = {
        "compares with champion": plan.model_copy(update={"comparator": "champion"}),
        "about a prompt that was not scored": with_item(prompt_id="f" * 16),
        "is about a prompt": with_item(cluster="another"),
        f"is not the {item.side}'s scored answer": with_item(answer_sha256="f" * 64),
    }
    for said, each in forged.items():
        assert said in find_forgery(each, folder)
    opened = reviewed.open(plan, reviewers=("ann", "bob"))
    reviewed.close(opened, Ratings(ratings=()), days=1)
    assert reviewed.rating().set_aside == ("the sealed plan is that of another review",)


def test_a_review_against_the_base_is_none_where_a_champion_was_scored(
    reviewed: Reviewed, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    shutil.copytree(reviewed.version.package, package)
    evidence = read_evidence(package / "evidence.parquet")
    as_champion = {"system": "champion"}
    answers = [row.model_copy(update=as_champion) for row in evidence.rows["base"]]
    rows = {**evidence.rows, "champion": tuple(answers)}
    both = evidence.model_copy(update={"rows": rows})
    write_evidence(package / "evidence.parquet", both)
    found = find_forgery(reviewed.plan(), package)
    assert found == "the review compares with base, the evidence does not"


def test_a_package_without_its_prompts_cannot_be_rated(
    reviewed: Reviewed, scored_folder: Path, tmp_path: Path
) -> None:
    shutil.copyfile(scored_folder / "evidence.parquet", tmp_path / "evidence.parquet")
    bare = replace(reviewed.version, package=tmp_path)
    with pytest.raises(IncompleteEvidence, match="holds no held-out prompts"):
        plan_review(bare, RATERS, Extent(12, 14), reviewed.state)


# Who counts.


def test_who_may_not_rate_is_named_with_the_reason(reviewed: Reviewed) -> None:
    users = ("ann", "zoe", "lena", "twin", "double")

    def excluded(origin: Registration, *, author_may_rate: bool) -> dict[str, str]:
        return find_excluded(origin, users, PEOPLE, author_may_rate=author_may_rate)

    origin = reviewed.version.origin
    found = excluded(origin, author_may_rate=False)
    assert found == {
        "zoe": "does not have the role reviewer",
        "lena": "trained the version",
        "double": "is the same person as twin",
    }
    assert "lena" not in excluded(origin, author_may_rate=True)
    unknown = excluded(
        origin.model_copy(update={"account": None}), author_may_rate=False
    )
    assert unknown["ann"].startswith("cannot be told from the author")


def test_ratings_of_those_who_count_are_given_for_other_uses(
    reviewed: Reviewed,
) -> None:
    plan = reviewed.review(everybody(BETTER))
    ((sealed, ratings),) = counted_ratings(
        reviewed.version, reviewed.state, reviewed.texts.get
    )
    assert sealed == plan
    assert {each.reviewer for each in ratings} == set(RATERS)


# What people wrote.


def written(
    plan: ReviewPlan, by: str, opinion: Opinion, at: datetime
) -> Iterator[Written]:
    at_ms = int(at.timestamp() * 1000)
    for item in plan.items:
        score, is_safe = opinion(item)
        for question, answer in ((SCORE, str(score)), (SAFE, is_safe)):
            yield Written(
                item=item.id,
                by=by,
                is_by_person=True,
                question=question,
                answer=answer,
                at_ms=at_ms,
            )


def test_what_is_written_after_the_end_changes_nothing(reviewed: Reviewed) -> None:
    plan = reviewed.plan()
    assert plan.closes_at is not None
    early = plan.closes_at - timedelta(hours=1)
    late = plan.closes_at + timedelta(seconds=1)
    in_time = tuple(written(plan, "ann", BETTER, early))
    too_late = tuple(written(plan, "ann", WORSE, late))
    bob = tuple(written(plan, "bob", BETTER, late))
    ratings = collect_ratings(plan, Found(written=(*too_late, *in_time, *bob)))
    assert ratings.ratings == rate(plan, ann=BETTER)
    assert ratings.dropped == (
        "'ann' rated after the review's end (64)",
        "'bob' rated after the review's end (64)",
    )
    assert find_unfinished(plan, ratings.ratings) == {"bob": 32, "eve": 32}
    at_the_end = tuple(written(plan, "ann", BETTER, plan.closes_at))
    whole = collect_ratings(plan, Found(written=at_the_end))
    assert whole.ratings == rate(plan, ann=BETTER)
    # An older plan has no end.
    open_end = plan.model_copy(update={"closes_at": None})
    whole = collect_ratings(open_end, Found(written=(*in_time, *bob)))
    assert find_unfinished(open_end, whole.ratings) == {"eve": 32}


def test_what_is_no_rating_is_left_out_and_named(reviewed: Reviewed) -> None:
    plan = reviewed.plan()
    first, *_ = written(plan, "ann", BETTER, reviewed.state.at)

    def said(**changes: object) -> tuple[str, ...]:
        each = first.model_copy(update=changes)
        return collect_ratings(plan, Found(written=(each,))).dropped

    assert said(item=f"tr-{'0' * 32}")[0].startswith("'ann' rated what is no item")
    assert said(question="Colour")[0].startswith("'ann' answered what nobody asked")
    assert said(is_by_person=False)[0].startswith("'ann' is no person")
    assert said(by="mallory")[0].startswith("'mallory' is no reviewer of this review")
    for answer in ("9", "0", 2.5, float("nan"), True, None, "٣", [3]):
        assert said(answer=answer)[0].startswith("'ann' wrote a value that is not 1 to")
    for answer in (3, 3.0, "3"):
        assert said(answer=answer) == ("'ann' answered one of the two questions (1)",)
    said_of_safe = said(question=SAFE, answer="yes")
    assert said_of_safe[0].startswith("'ann' wrote a value that is not yes or no")


def seen_of(shown: Shown) -> Seen:
    last = shown.prompt.messages[-1].content
    return Seen(
        messages=shown.prompt.messages,
        answer=shown.answer,
        asked_preview=last[:1000],
        answer_preview=shown.answer[:1000],
    )


def test_a_text_that_was_altered_after_the_seal_is_found(reviewed: Reviewed) -> None:
    plan, shown = plan_review(reviewed.version, RATERS, Extent(12, 14), reviewed.state)
    seen = {each.item.id: seen_of(each) for each in shown}
    assert find_altered(plan.items, seen) == ()
    first = plan.items[0]
    own = seen[first.id]
    system = Message(role="system", content="Be kind to this one.")
    changes: tuple[dict[str, object], ...] = (
        {"answer": "better", "answer_preview": "better"},
        {"answer_preview": "better"},
        {"asked_preview": "what else?"},
        {"messages": (system, *own.messages)},
        {"messages": ()},
    )
    for change in changes:
        altered = {**seen, first.id: own.model_copy(update=change)}
        assert find_altered(plan.items, altered) == (first.id,), change
    # What is not there has no rating either, and an older plan has the prompt's id alone.
    assert find_altered(plan.items, {}) == ()
    older = first.model_copy(update={"messages_sha256": None})
    assert find_altered((older,), seen) == ()
    other = own.model_copy(
        update={"messages": (system,), "asked_preview": system.content}
    )
    assert find_altered((older,), {first.id: other}) == (first.id,)


def test_ratings_of_an_altered_item_are_left_out(reviewed: Reviewed) -> None:
    plan = reviewed.plan()
    entries = tuple(written(plan, "ann", BETTER, reviewed.state.at))
    item = plan.items[0].id
    ratings = collect_ratings(plan, Found(written=entries, altered=(item,)))
    assert ratings.altered == (item,)
    assert item not in {each.item for each in ratings.ratings}
    opened = reviewed.open(plan)
    reviewed.close(opened, ratings, days=15)
    assert reviewed.rating().altered == 1


# In a ledger on disk.


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    opened = open_ledger(tmp_path / "home")
    append(opened, lambda _: registered())
    return opened


def on_disk(reviewed: Reviewed, ledger: Ledger) -> RatedVersion:
    origin = ledger.state().registration(MODEL, "1")
    assert origin is not None
    return replace(reviewed.version, origin=origin)


def open_on_disk(version: RatedVersion, ledger: Ledger) -> ReviewPlan:
    state: LedgerState = ledger.state()
    plan, _ = plan_review(version, RATERS, Extent(12, 14), state)
    enter_opening(plan, BY, ledger)
    return plan


def test_a_review_is_closed_early_only_where_that_is_asked_for_and_then_passes_nothing(
    reviewed: Reviewed, ledger: Ledger
) -> None:
    version = on_disk(reviewed, ledger)
    with pytest.raises(ReleaseError, match="No review of version 1"):
        find_open(version, ledger)
    plan = open_on_disk(version, ledger)
    now = datetime.now(UTC)
    two = tuple(
        each for name in ("ann", "bob") for each in written(plan, name, BETTER, now)
    )
    found = Found(written=two)
    with pytest.raises(ReleaseError, match=r"eve has 32 left. Wait for them until 20"):
        close(version, find_open(version, ledger), found, BY, ledger)
    closed = close(
        version,
        find_open(version, ledger),
        found,
        BY,
        ledger,
        is_unfinished_allowed=True,
    )
    assert (closed.rating.is_early, closed.rating.missing) == (True, 32)
    # Counted again from the ledger, it comes to the same.
    again = human_rating(version, ledger.state(), ledger.recall)
    assert again == closed.rating
    with pytest.raises(ReleaseError, match="No review of version 1"):
        find_open(version, ledger)


def test_a_whole_review_is_closed_at_once(reviewed: Reviewed, ledger: Ledger) -> None:
    version = on_disk(reviewed, ledger)
    plan = open_on_disk(version, ledger)
    now = datetime.now(UTC)
    whole = tuple(each for name in RATERS for each in written(plan, name, BETTER, now))
    found = Found(written=whole)
    closed = close(version, find_open(version, ledger), found, BY, ledger)
    assert (closed.rating.raters, closed.rating.is_early) == (3, False)


def test_a_review_whose_plan_was_erased_cannot_be_closed(
    reviewed: Reviewed, ledger: Ledger
) -> None:
    version = on_disk(reviewed, ledger)
    open_on_disk(version, ledger)
    ledger.erase(ledger.state().reviews[-1].plan_sha256)
    with pytest.raises(ReleaseError, match=r"sealed plan of the review .* was erased"):
        find_open(version, ledger)
