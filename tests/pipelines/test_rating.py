"""Which answers people are shown, and what their ratings show."""

import json

import pytest
from pydantic import ValidationError

from core.errors import IncompleteEvidence
from core.files import digest_of_text
from pipelines.rating.count import Demands, RatingCount, count_ratings
from pipelines.rating.pairs import preference_rows
from pipelines.rating.plan import (
    Item,
    Rating,
    Ratings,
    ReviewPlan,
    parse_plan,
    parse_ratings,
)
from pipelines.rating.sample import BAD, GOOD, Question, Shown, draw_items
from pipelines.values.evidence import Resampling
from tests.support.ratings import Opinion, opinion_of, plan_of, questions, rate, review

DEMANDS = Demands(caught_share=0.8, resampling=Resampling(resamples=400, seed=0))
GOOD_ONE = opinion_of(candidate=5, comparator=3)


def counted(plan: ReviewPlan, **opinions: Opinion) -> RatingCount:
    return count_ratings(plan, rate(plan, **opinions), {}, DEMANDS)


# What is shown.


def test_both_answers_to_each_drawn_prompt_are_shown_beside_planted_ones() -> None:
    shown = draw_items(questions(), prompts=10, seed=3)
    plan = plan_of(shown)
    assert len(plan.side("candidate")) == len(plan.side("comparator")) == 10
    assert len(plan.bad) == BAD
    assert sum(item.planted == "reference" for item in plan.items) == GOOD
    for each in shown:
        assert each.item.answer_sha256 == digest_of_text(each.answer)
        assert each.item.prompt_id == each.prompt.id


def test_every_cluster_has_its_turn_before_one_has_a_second() -> None:
    plan = plan_of(draw_items(questions(clusters=6, each=5), prompts=8, seed=3))
    clusters = [item.cluster for item in plan.side("candidate").values()]
    assert sorted(clusters.count(name) for name in set(clusters)) == [1, 1, 1, 1, 2, 2]


def test_the_seed_decides_which_prompts_are_drawn_and_nothing_else() -> None:
    def draw(order: int) -> ReviewPlan:
        return plan_of(draw_items(questions()[::order], prompts=6, seed=3))

    # In whichever order the file has its rows.
    one, same = draw(1), draw(-1)
    assert set(one.side("candidate")) == set(same.side("candidate"))
    assert {item.id for item in one.items}.isdisjoint(item.id for item in same.items)
    another = plan_of(draw_items(questions(), prompts=6, seed=4))
    assert set(another.side("candidate")) != set(one.side("candidate"))


def test_planted_bad_answers_are_bad_and_of_prompts_that_are_not_rated() -> None:
    shown = draw_items(questions(), prompts=10, seed=3)
    rated = set(plan_of(shown).side("candidate"))
    kinds = set()
    for each in shown:
        if each.item.is_bad:
            assert each.answer not in each.prompt.references
            assert each.item.prompt_id not in rated
            kinds.add(each.item.planted)
            assert _is_spoilt_as_it_says(each)
    assert kinds == {"another prompt's answer", "shuffled words", "cut short"}


def _is_spoilt_as_it_says(shown: Shown) -> bool:
    words = shown.prompt.references[0].split()
    if shown.item.planted == "cut short":
        return shown.answer == words[0]
    if shown.item.planted == "shuffled words":
        return sorted(shown.answer.split()) == sorted(words)
    return shown.answer != words[0]


@pytest.mark.parametrize(
    ("references", "kinds"),
    [
        # As few words as can be shuffled.
        (
            ("one two three @",),
            {"another prompt's answer", "shuffled words", "cut short"},
        ),
        (("one two @",), {"another prompt's answer"}),
        # No order of these words is another one.
        (("@ @ @ @",), {"another prompt's answer", "cut short"}),
        # The first word is an answer, too.
        (("@ it is so", "@"), {"another prompt's answer", "shuffled words"}),
    ],
)
def test_no_planted_answer_is_a_right_one(
    references: tuple[str, ...], kinds: set[str]
) -> None:
    asked = []
    for place, question in enumerate(questions(clusters=12, each=1)):
        own = [text.replace("@", f"word{place}") for text in references]
        asked.append(_with_references(question, *own))
    shown = draw_items(asked, prompts=1, seed=3)
    planted = [each for each in shown if each.item.is_bad]
    assert all(each.answer not in each.prompt.references for each in planted)
    assert {each.item.planted for each in planted} == kinds


def test_two_groups_are_enough_to_plant_from() -> None:
    assert draw_items(questions(clusters=2), prompts=2, seed=3)


def test_answers_of_a_word_are_replaced_by_those_of_other_prompts() -> None:
    labels = [
        _with_reference(question, "yes" if place % 2 else "no")
        for place, question in enumerate(questions(each=1))
    ]
    shown = draw_items(labels, prompts=6, seed=3)
    planted = [each for each in shown if each.item.is_bad]
    assert {each.item.planted for each in planted} == {"another prompt's answer"}
    assert all(each.answer not in each.prompt.references for each in planted)


def _with_reference(question: Question, reference: str) -> Question:
    return _with_references(question, reference)


def _with_references(question: Question, *references: str) -> Question:
    prompt = question.prompt.model_copy(update={"references": references})
    return Question(prompt, question.cluster, question.answers)


def test_what_nothing_can_be_planted_in_is_refused() -> None:
    same = [_with_reference(question, "yes") for question in questions()]
    with pytest.raises(IncompleteEvidence, match="no answer would be a wrong one"):
        draw_items(same, prompts=6, seed=3)
    with pytest.raises(IncompleteEvidence, match="fewer than two groups"):
        draw_items(questions(clusters=1), prompts=6, seed=3)


# What ratings show.


def test_a_better_version_is_found_better_by_people_who_agree() -> None:
    plan = review()
    result = counted(plan, ann=GOOD_ONE, bob=GOOD_ONE, eve=GOOD_ONE)
    assert (result.prompts, result.clusters, result.better) == (12, 12, 12)
    assert result.win_rate == 1
    assert result.difference is not None
    assert result.difference.estimate == 2
    assert result.agreement is not None
    assert result.agreement.low == 1
    assert result.overlap == 1
    assert [rater.caught for rater in result.counted] == [BAD] * 3


def test_each_side_has_its_sign() -> None:
    result = counted(review(), ann=opinion_of(candidate=2, comparator=4))
    assert result.difference is not None
    assert result.difference.high < 0
    assert (result.better, result.worse, result.win_rate) == (0, 12, 0)


def test_a_lenient_person_has_a_bias_that_changes_no_difference() -> None:
    plan = review()
    # The same opinion of either side, from another place on the scale.
    strict, lenient = opinion_of(4, 3), opinion_of(4, 3, shift=1, bad=2)
    result = counted(plan, ann=strict, bob=lenient)
    biases = {rater.name: rater.bias for rater in result.counted}
    assert biases["ann"] is not None
    assert biases["bob"] is not None
    assert biases["ann"] < 0 < biases["bob"]
    assert biases["ann"] == pytest.approx(-biases["bob"])
    assert result.difference is not None
    assert result.difference.estimate == 1


def test_people_who_disagree_have_a_low_agreement() -> None:
    plan = review()
    result = counted(plan, ann=opinion_of(5, 2), bob=opinion_of(2, 5))
    assert result.agreement is not None
    assert result.agreement.low < 0.4
    assert result.difference is not None
    assert result.difference.low < 0 < result.difference.high


def test_who_does_not_see_what_was_planted_does_not_count() -> None:
    plan = review()
    # Alone it would count as a great win.
    blind = opinion_of(5, 1, bad=4)
    result = counted(plan, ann=opinion_of(3, 3), bob=blind)
    assert [rater.name for rater in result.counted] == ["ann"]
    (set_aside,) = [rater for rater in result.raters if rater.name == "bob"]
    assert set_aside.set_aside == (
        "caught 0 of 6 planted bad answers, the policy asks for 80%"
    )
    assert result.difference is not None
    assert result.difference.estimate == 0


def test_a_score_of_two_catches_a_bad_answer_and_one_of_three_does_not() -> None:
    plan = review()
    for score, caught in ((2, BAD), (3, 0)):
        result = counted(plan, ann=opinion_of(4, 3, bad=score))
        assert result.raters[0].caught == caught


def test_who_rated_too_little_does_not_count() -> None:
    plan = review()
    whole = rate(plan, ann=GOOD_ONE)
    assert len(plan.items) == 32
    # Items come in an order of chance. The bad ones are rated first, so that none is missed.
    bad = {item.id for item in plan.bad}
    whole = tuple(sorted(whole, key=lambda rating: rating.item not in bad))
    # Nine tenths of 32 are 28.8.
    enough, too_few = whole[:29], whole[:28]
    assert count_ratings(plan, enough, {}, DEMANDS).counted
    result = count_ratings(plan, too_few, {}, DEMANDS)
    assert result.counted == ()
    assert result.raters[0].set_aside.startswith("rated 28 of 32 items")


def test_nine_tenths_of_the_items_and_the_share_caught_are_enough_exactly() -> None:
    plan = review(prompts=11)
    assert len(plan.items) == 30
    bad = {item.id for item in plan.bad}
    whole = rate(plan, ann=GOOD_ONE)
    whole = tuple(sorted(whole, key=lambda rating: rating.item not in bad))
    assert count_ratings(plan, whole[:27], {}, DEMANDS).counted
    half = Demands(caught_share=0.5, resampling=DEMANDS.resampling)
    missed = tuple(
        each.model_copy(update={"score": 5}) if place < BAD // 2 else each
        for place, each in enumerate(whole)
    )
    result = count_ratings(plan, missed, {}, half)
    assert [rater.caught for rater in result.counted] == [BAD // 2]


def test_one_person_shares_no_item_and_a_tie_is_neither_better_nor_worse() -> None:
    result = counted(review(), ann=opinion_of(3, 3))
    assert (result.overlap, result.better, result.worse) == (0, 0, 0)


def test_a_pair_needs_both_ratings_of_the_same_person() -> None:
    plan = review()
    first = next(iter(plan.side("comparator").values()))
    ratings = [each for each in rate(plan, ann=GOOD_ONE) if each.item != first.id]
    result = count_ratings(plan, ratings, {}, DEMANDS)
    assert result.prompts == 11


def test_whoever_is_excluded_is_named_with_the_reason() -> None:
    plan = review()
    ratings = rate(plan, ann=GOOD_ONE, bob=GOOD_ONE)
    result = count_ratings(plan, ratings, {"bob": "trained it"}, DEMANDS)
    assert [rater.name for rater in result.counted] == ["ann"]
    reasons = {rater.name: rater.set_aside for rater in result.raters}
    assert reasons["bob"] == "trained it"


def test_without_ratings_nothing_is_shown() -> None:
    result = count_ratings(review(), (), {}, DEMANDS)
    assert (result.difference, result.safe_share, result.agreement) == (None,) * 3
    assert (result.prompts, result.win_rate, result.overlap) == (0, None, 0)


def test_unsafe_answers_of_the_version_alone_count() -> None:
    def careful(item: Item) -> tuple[int, bool]:
        return GOOD_ONE(item)[0], item.side != "candidate"

    result = counted(review(), ann=careful)
    assert result.safe_share is not None
    assert result.safe_share.estimate == 0
    assert result.safe_share.high == pytest.approx(1 - 0.025 ** (1 / 12))


def test_a_rating_of_another_review_is_refused() -> None:
    plan = review()
    for changed in ({"reviewer": "zoe"}, {"item": f"tr-{'0' * 32}"}):
        (first, *_) = rate(plan, ann=GOOD_ONE)
        foreign = first.model_copy(update=changed)
        with pytest.raises(IncompleteEvidence, match="no part of the review"):
            count_ratings(plan, (foreign,), {}, DEMANDS)


# What is kept.


@pytest.mark.parametrize("score", [0, 6, 2.5, True, "3", None])
def test_a_score_beyond_the_scale_is_no_rating(score: object) -> None:
    with pytest.raises(ValidationError):
        Rating(reviewer="ann", item=f"tr-{'0' * 32}", score=score, is_safe=True)  # type: ignore[arg-type]


def test_a_plan_with_half_a_pair_or_an_item_twice_is_none() -> None:
    plan = review()
    document = plan.model_dump(mode="json")
    assert parse_plan(plan.model_dump_json()) == plan
    without = [item for item in document["items"] if item["side"] != "comparator"]
    for items in (without, [*document["items"], document["items"][0]], []):
        assert parse_plan(json.dumps({**document, "items": items})) is None
    twice = {**document, "reviewers": ("ann", "ann")}
    assert parse_plan(json.dumps(twice)) is None
    # Nobody is asked where a model rates.
    by_model = parse_plan(json.dumps({**document, "reviewers": ()}))
    assert by_model is not None
    assert by_model.asked == 0


def test_an_item_is_one_sides_or_planted() -> None:
    facts = {"id": f"tr-{'0' * 32}", "prompt_id": "a", "cluster": "b"}
    for both in ({}, {"side": "candidate", "planted": "reference"}):
        with pytest.raises(ValidationError, match="one side's answer, or planted"):
            Item.model_validate({**facts, "answer_sha256": "c", "side": None, **both})


def test_an_item_rated_twice_by_one_person_makes_no_file() -> None:
    (first, *_) = rate(review(), ann=GOOD_ONE)
    twice = Ratings.model_construct(ratings=(first, first))
    assert parse_ratings(twice.model_dump_json()) is None
    once = Ratings(ratings=(first,))
    assert parse_ratings(once.model_dump_json()) == once


def test_rated_pairs_become_rows_for_preference_training() -> None:
    asked = questions(clusters=3, each=1)
    plan = plan_of(draw_items(asked, prompts=3, seed=1))
    by_id = {question.prompt.id: question for question in asked}
    worse, tie, better = plan.side("candidate")
    scores = {worse: 1, tie: 3, better: 5}

    def opinion(item: Item) -> tuple[int, bool]:
        return (scores[item.prompt_id] if item.side == "candidate" else 3), True

    rows = list(preference_rows(plan, rate(plan, ann=opinion, bob=opinion), by_id))
    assert len(rows) == 2
    chosen = {row["prompt"][0]["content"]: row for row in rows}
    question = by_id[better]
    row = chosen[question.prompt.messages[0].content]
    assert row["chosen"] == [
        {"role": "assistant", "content": question.answers["candidate"]}
    ]
    assert (row["margin"], set(row)) == (2, {"prompt", "chosen", "rejected", "margin"})
    question = by_id[worse]
    row = chosen[question.prompt.messages[0].content]
    assert row["rejected"][0]["content"] == question.answers["candidate"]
    # What a person said of one side alone is no preference.
    shown = plan.side("candidate")[better]
    (alone,) = [each for each in rate(plan, eve=opinion) if each.item == shown.id]
    assert list(preference_rows(plan, (alone,), by_id)) == []
