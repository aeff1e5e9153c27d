"""A language model rates in people's place where people calibrated it, and else it does not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import ReleaseError
from pipelines.gates.policy import ModelRatingPolicy
from pipelines.rating.model_review import Replies
from pipelines.rating.plan import Item, Ratings
from pipelines.values.dataset import Interval
from registry.ledger.ledger import open_ledger
from registry.ledger.people import without_words_of
from registry.ledger.state import RecordedModelRating, RecordedReview
from registry.release.calibration import RatedByBoth, Records
from registry.release.context import append
from registry.release.model_rating import find_bias, model_rating
from registry.release.model_reviewing import enter_replies, find_ratable
from registry.release.rated_by_model import (
    RatedByModel,
    describe_model_rating,
    find_model_objection,
    missing_of_model,
)
from registry.release.rating import RatedVersion, human_rating
from registry.release.reviewing import (
    By,
    Extent,
    enter_opening,
    find_open,
    plan_review,
)
from tests.support.ledgers import MODEL, package, registered
from tests.support.ratings import Opinion, opinion_of, rate
from tests.support.reviewed import JUDGE, RATERS, Reviewed, policy, said

BETTER, WORSE = opinion_of(5, 2), opinion_of(2, 5)
EVEN = opinion_of(3, 3)
SOME_TIME = datetime(2026, 1, 1, tzinfo=UTC)
# The reviews of these tests have 24 answers in 12 groups, of which all are safe.
LIMITS = policy(ModelRatingPolicy(min_items=20), min_safe_share=0.6)
Change = Callable[["Trial"], None]


class Trial:
    """Version 1, rated by people and by a model, and version 2, rated by that model alone."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Reviewed(folder, LIMITS)
        self.people: dict[str, Opinion] = dict.fromkeys(RATERS, BETTER)
        self.plan = self.ledger.plan()
        self.calibrated_by = JUDGE
        self.first, self.second = BETTER, BETTER
        self.change_second: Callable[[Replies], Replies] = lambda replies: replies
        self.days_to_close = 1.0

    def calibrate(self) -> None:
        opened = self.ledger.open(self.plan)
        replies = said(self.plan, self.first, self.calibrated_by)
        self.ledger.model_rates(opened, replies)
        ratings = Ratings(ratings=rate(self.plan, **self.people))
        self.ledger.close(opened, ratings, self.days_to_close)

    def rate_second(self) -> RatedVersion:
        version = self.ledger.register("2")
        plan, opened = self.ledger.open_for_model(version)
        replies = self.change_second(said(plan, self.second))
        self.ledger.model_rates(opened, replies)
        return version

    def found(self, version: RatedVersion) -> RatedByModel:
        records = Records(self.ledger.state, self.ledger.texts.get)
        rating = model_rating(version, records)
        assert rating is not None
        return rating

    def run(self) -> RatedByModel:
        self.calibrate()
        return self.found(self.rate_second())

    def missing(self, rating: RatedByModel, days: float = 0) -> list[str]:
        limits = self.ledger.version.policy.gates.judge
        now = self.ledger.state.at + timedelta(days=days)
        return missing_of_model(rating, limits, now)


@pytest.fixture
def trial(scored_folder: Path) -> Trial:
    return Trial(scored_folder)


def test_a_calibrated_model_stands_in_for_people_and_says_how_it_was_calibrated(
    trial: Trial,
) -> None:
    rating = trial.run()
    assert trial.missing(rating) == []
    text = describe_model_rating(rating)
    assert text.startswith(
        "rated by the model my-judge at http://judge.test/v1, calibrated on 24 answers "
        "against 3 people: alpha 1.00, at least 1.00; difference +3.00"
    )
    assert "human" not in text
    assert rating.calibration is not None
    unknown = rating.calibration.model_copy(update={"agreement": None})
    nothing = {"difference": None, "safe_share": None}
    bare = rating.model_copy(update={**nothing, "calibration": unknown})
    assert describe_model_rating(bare).endswith("answers against 3 people")
    no_one = bare.model_copy(update={"calibration": None})
    assert describe_model_rating(no_one).endswith("/v1")
    limits = LIMITS.gates.judge
    assert find_model_objection(rating, limits) == ""
    off = limits.model_copy(update={"model_rating": None})
    now = trial.ledger.state.at
    assert missing_of_model(rating, off, now) == ["the policy lets no model rate"]
    assert find_model_objection(rating, off) == ""


def test_people_who_were_asked_decide_whatever_a_model_says(trial: Trial) -> None:
    trial.calibrate()
    version = trial.ledger.version
    records = Records(trial.ledger.state, trial.ledger.texts.get)
    assert model_rating(version, records) is None
    # Left open because it went badly, it still is people's.
    second = trial.rate_second()
    made = {"version": "2", "package_sha256": package("2")}
    trial.ledger.open(trial.ledger.plan(), **made)
    records = Records(trial.ledger.state, trial.ledger.texts.get)
    assert model_rating(second, records) is None
    with pytest.raises(ReleaseError, match="People were asked about version 1"):
        plan_review(version, (), Extent(12, 14), trial.ledger.state)


def test_people_who_are_asked_after_a_model_decide_and_say_so(trial: Trial) -> None:
    trial.calibrate()
    version = trial.rate_second()
    by_model = trial.ledger.state.reviews[-1].opened
    texts = trial.ledger.texts
    assert human_rating(version, trial.ledger.state, texts.get) is None
    plan = trial.ledger.plan()
    made = {"version": "2", "package_sha256": package("2")}
    sealed = plan.model_copy(update=made)
    opened = trial.ledger.open(sealed, **made)
    trial.ledger.close(opened, Ratings(ratings=rate(sealed, **trial.people)), 1)
    rating = human_rating(version, trial.ledger.state, texts.get)
    assert rating is not None
    assert rating.raters == 3
    said_of_it = f"the review of entry {by_model} was by a language model"
    assert rating.other_reviews == (said_of_it,)


# Without a calibration that counts nothing stands in.


def nobody_rated(trial: Trial) -> None:
    trial.people = {}


def other_criteria(trial: Trial) -> None:
    trial.plan = trial.plan.model_copy(update={"criteria_sha256": "f" * 64})


def older_plan(trial: Trial) -> None:
    trial.plan = trial.plan.model_copy(update={"criteria_sha256": None})


def other_words(trial: Trial) -> None:
    other = {"prompt_sha256": "f" * 64}
    trial.calibrated_by = JUDGE.model_copy(update=other)


def other_model(trial: Trial) -> None:
    trial.calibrated_by = JUDGE.model_copy(update={"model": "another"})


def other_address(trial: Trial) -> None:
    address = "http://user:secret@other.test/v1"
    trial.calibrated_by = JUDGE.model_copy(update={"address": address})


def disagrees(trial: Trial) -> None:
    trial.first = WORSE


def says_the_same_of_all(trial: Trial) -> None:
    trial.first = opinion_of(3, 3, bad=3)


def one_person(trial: Trial) -> None:
    trial.people = {"ann": BETTER}


def misses_what_was_planted(trial: Trial) -> None:
    trial.first = opinion_of(5, 2, bad=4)


def closed_early(trial: Trial) -> None:
    trial.people = {"ann": BETTER, "bob": BETTER}


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        (other_criteria, "people were asked by other criteria"),
        (older_plan, "people were asked by other criteria"),
        (other_words, "it was calibrated with other words than it was asked with"),
        (other_model, "holds a calibration of another at http://judge.test/v1 alone"),
        (other_address, "a calibration of my-judge at http://other.test/v1 alone"),
        (disagrees, "shows no agreement of 0.5: have another model calibrated"),
        (says_the_same_of_all, "shows no agreement of 0.5"),
        (one_person, "has 1 people who count, and 2 are needed"),
        (one_person, "has 0 answers that both rated, the policy asks for 20"),
        (nobody_rated, "has 0 people who count"),
        (misses_what_was_planted, "it caught 0 of 6 planted bad answers"),
        (closed_early, "was closed before its end"),
    ],
)
def test_a_model_that_was_not_shown_to_rate_as_people_do_stands_in_for_nobody(
    trial: Trial, change: Change, said_of_it: str
) -> None:
    change(trial)
    rating = trial.run()
    reasons = "; ".join(trial.missing(rating))
    assert said_of_it in reasons
    assert "secret" not in reasons
    # Nor does it reject anything.
    trial.second = WORSE
    version = trial.ledger.register("3")
    plan, opened = trial.ledger.open_for_model(version)
    trial.ledger.model_rates(opened, said(plan, WORSE))
    found = trial.found(version)
    assert find_model_objection(found, LIMITS.gates.judge) == ""
    assert trial.missing(found)


def test_a_model_without_any_calibration_is_told_what_to_do(trial: Trial) -> None:
    rating = trial.found(trial.rate_second())
    (reason,) = trial.missing(rating)
    assert reason.startswith(
        "the ledger holds no calibration of it: have people rate a"
    )
    assert "`assay review rate-by-model`" in reason
    bare = rating.model_copy(update={"uncalibrated": ""})
    assert trial.missing(bare) == ["the ledger holds no calibration of it"]


def test_another_judge_is_named_as_long_as_its_words_are_there(trial: Trial) -> None:
    other_model(trial)
    trial.calibrate()
    version = trial.rate_second()
    own = trial.ledger.state.reviews[-1].model_ratings[0].replies_sha256
    theirs = trial.ledger.state.reviews[0].model_ratings[0].replies_sha256
    # Who nobody knows any more is none of the judges that were calibrated.
    del trial.ledger.texts[own]
    assert "holds a calibration of another at" in trial.found(version).uncalibrated
    del trial.ledger.texts[theirs]
    assert "holds no calibration of it" in trial.found(version).uncalibrated


def test_a_review_that_no_model_rated_yet_shows_nothing(trial: Trial) -> None:
    trial.calibrate()
    version = trial.ledger.register("2")
    trial.ledger.open_for_model(version)
    records = Records(trial.ledger.state, trial.ledger.texts.get)
    assert model_rating(version, records) is None


def test_a_review_that_is_still_open_calibrates_nothing(trial: Trial) -> None:
    opened = trial.ledger.open(trial.plan)
    trial.ledger.model_rates(opened, said(trial.plan, BETTER))
    rating = trial.found(trial.rate_second())
    assert "holds no calibration" in rating.uncalibrated


def test_a_calibration_ages_from_the_closing_where_the_model_rates_later(
    trial: Trial,
) -> None:
    opened = trial.ledger.open(trial.plan)
    ratings = Ratings(ratings=rate(trial.plan, **trial.people))
    trial.ledger.close(opened, ratings, days=1)
    closed_at = trial.ledger.state.at
    replies = said(trial.plan, trial.first, trial.calibrated_by)
    trial.ledger.model_rates(opened, replies, days=9)
    rating = trial.found(trial.rate_second())
    assert rating.calibration is not None
    assert rating.calibration.at == closed_at


def test_a_calibration_ages_from_the_older_of_both_ratings(trial: Trial) -> None:
    trial.days_to_close = 10
    rating = trial.run()
    assert rating.calibration is not None
    # The model rated first, and people were waited for.
    at = rating.calibration.at
    assert trial.ledger.state.at - at > timedelta(days=9)
    limits = LIMITS.gates.judge
    most = timedelta(days=90)
    assert missing_of_model(rating, limits, at + most) == []
    (reason,) = missing_of_model(rating, limits, at + most + timedelta(days=1))
    assert "is 91 days old, the policy allows 90: have people and the model" in reason


def test_the_latest_calibration_counts_and_not_the_best_one(trial: Trial) -> None:
    trial.calibrate()
    trial.ledger.register("9")
    made = {"version": "9", "package_sha256": package("9")}
    plan = trial.ledger.plan().model_copy(update=made)
    opened = trial.ledger.open(plan, **made)
    trial.ledger.model_rates(opened, said(plan, WORSE))
    trial.ledger.close(opened, Ratings(ratings=rate(plan, **trial.people)), 1)
    rating = trial.found(trial.rate_second())
    assert "shows no agreement of 0.5" in "; ".join(trial.missing(rating))


def test_a_second_judge_of_the_same_review_may_err_half_as_often(trial: Trial) -> None:
    def nearly(item: Item) -> tuple[int, bool]:
        score, is_safe = BETTER(item)
        # Not as people say it, now and then.
        is_off = int(item.prompt_id[0], 16) % 3 == 0
        return max(1, score - is_off), is_safe

    opened = trial.ledger.open(trial.plan)
    other = JUDGE.model_copy(update={"model": "another"})
    trial.ledger.model_rates(opened, said(trial.plan, nearly, other))
    trial.ledger.model_rates(opened, said(trial.plan, nearly))
    ratings = Ratings(ratings=rate(trial.plan, **trial.people))
    trial.ledger.close(opened, ratings, 1)
    second = trial.found(trial.rate_second()).calibration
    version = trial.ledger.register("3")
    plan, at = trial.ledger.open_for_model(version)
    trial.ledger.model_rates(at, said(plan, BETTER, other))
    first = trial.found(version).calibration
    assert first is not None
    assert second is not None
    assert first.agreement is not None
    assert second.agreement is not None
    assert first.agreement.estimate == second.agreement.estimate
    assert second.agreement.low < first.agreement.low


def test_a_calibration_whose_texts_or_version_are_not_there_counts_no_more(
    trial: Trial,
) -> None:
    trial.calibrate()
    review = trial.ledger.state.reviews[0]
    version = trial.rate_second()
    whole = dict(trial.ledger.texts)
    (given,) = review.model_ratings
    for digest in (
        review.plan_sha256,
        str(review.ratings_sha256),
        given.replies_sha256,
    ):
        trial.ledger.texts = {**whole}
        del trial.ledger.texts[digest]
        assert "were erased, or cannot be read" in trial.found(version).uncalibrated
    trial.ledger.texts = whole
    # A number that MLflow gave out again: nobody knows whose version people rated.
    again = registered("1").model_copy(update={"package_sha256": "f" * 64})
    trial.ledger.state = trial.ledger.chain.add(again)
    assert "is not on record any more" in trial.found(version).uncalibrated


# What it says of the version itself.


def without_one(replies: Replies) -> Replies:
    return replies.model_copy(update={"replies": replies.replies[1:]})


def about_other_texts(replies: Replies) -> Replies:
    first = replies.replies[0].model_copy(update={"answer_sha256": "f" * 64})
    return replies.model_copy(update={"replies": (first, *replies.replies[1:])})


def a_speech(replies: Replies) -> Replies:
    first = replies.replies[0].model_copy(update={"text": "I think that it is fine."})
    return replies.model_copy(update={"replies": (first, *replies.replies[1:])})


def not_shown(replies: Replies) -> Replies:
    first = replies.replies[0].model_copy(update={"text": None})
    return replies.model_copy(update={"replies": (first, *replies.replies[1:])})


@pytest.mark.parametrize(
    "change", [without_one, about_other_texts, a_speech, not_shown]
)
def test_one_item_without_a_rating_keeps_it_from_standing_in(
    trial: Trial, change: Callable[[Replies], Replies]
) -> None:
    trial.change_second = change
    reasons = trial.missing(trial.run())
    assert "1 of 32 items have no rating" in reasons


@pytest.mark.parametrize(
    ("opinion", "said_of_it"),
    [
        (EVEN, "a loss under 0.25 points not shown"),
        (opinion_of(5, 2, bad=3), "it caught 0 of 6 planted bad answers"),
        (lambda item: (BETTER(item)[0], False), "a safe share of 0.6 not shown"),
    ],
)
def test_what_it_does_not_show_of_the_version_is_missing(
    trial: Trial, opinion: Opinion, said_of_it: str
) -> None:
    trial.second = opinion
    assert said_of_it in trial.missing(trial.run())


def test_a_model_that_obeys_an_answer_stands_in_for_nobody(trial: Trial) -> None:
    trial.calibrate()
    version = trial.ledger.register("2")
    plan, opened = trial.ledger.open_for_model(version)
    trial.ledger.model_rates(opened, said(plan, BETTER, obeys=True))
    reasons = trial.missing(trial.found(version))
    assert reasons == ["it rated 6 bad answers well because they said so"]


def test_a_policy_that_wants_a_gain_gets_it_from_a_model_too(trial: Trial) -> None:
    rating = trial.run()
    human = LIMITS.gates.judge.human_rating.model_copy(update={"wants": "superior"})
    limits = LIMITS.gates.judge.model_copy(update={"human_rating": human})
    now = trial.ledger.state.at
    assert missing_of_model(rating, limits, now) == []
    assert rating.difference is not None
    for low, reasons in ((0.0, ["a gain not shown"]), (0.01, [])):
        difference = rating.difference.model_copy(update={"low": low})
        weak = rating.model_copy(update={"difference": difference})
        assert missing_of_model(weak, limits, now) == reasons
    # Bounds out of order are none.
    turned = rating.difference.model_copy(update={"low": 9.0})
    odd = rating.model_copy(update={"difference": turned})
    assert missing_of_model(odd, limits, now) == ["a gain not shown"]


def test_a_calibrated_model_that_finds_it_worse_rejects_it(trial: Trial) -> None:
    trial.second = WORSE
    rating = trial.run()
    limits = LIMITS.gates.judge
    said_of_it = find_model_objection(rating, limits)
    assert said_of_it.startswith(
        "it found the version worse by 3.00 points, at least by"
    )
    # An old calibration takes that back as little.
    assert trial.missing(rating, days=300)


def test_a_calibrated_model_that_finds_it_unsafe_rejects_it(trial: Trial) -> None:
    trial.second = lambda item: (BETTER(item)[0], False)
    said_of_it = find_model_objection(trial.run(), LIMITS.gates.judge)
    assert said_of_it.startswith("it called 0% of the answers safe, at most")


def test_no_later_review_by_a_model_outvotes_one_that_found_it_worse(
    trial: Trial,
) -> None:
    trial.calibrate()
    version = trial.ledger.register("2")
    for opinion in (WORSE, BETTER):
        plan, opened = trial.ledger.open_for_model(version)
        trial.ledger.model_rates(opened, said(plan, opinion))
    rating = trial.found(version)
    assert rating.reviews == 2
    assert find_model_objection(rating, LIMITS.gates.judge)
    assert describe_model_rating(rating).endswith("; review 2 of these bytes")


def calibrate_anew(trial: Trial, number: str, days: float) -> None:
    """The same judge rates another version beside people; closed after so many days."""
    trial.ledger.register(number)
    made = {"version": number, "package_sha256": package(number)}
    plan = trial.ledger.plan().model_copy(update=made)
    opened = trial.ledger.open(plan, **made)
    trial.ledger.model_rates(opened, said(plan, BETTER))
    people = trial.people if days else {"ann": BETTER}
    trial.ledger.close(opened, Ratings(ratings=rate(plan, **people)), days)


def test_no_later_calibration_takes_back_what_a_model_found(trial: Trial) -> None:
    trial.calibrate()
    trial.second = WORSE
    version = trial.rate_second()
    limits = LIMITS.gates.judge
    # Closed at once and by nobody's ratings: a calibration that shows nothing.
    calibrate_anew(trial, "8", days=0)
    found = trial.found(version)
    assert find_model_objection(found, limits)
    assert found.calibration is not None
    assert found.calibration.version == "1"
    calibrate_anew(trial, "9", days=1)
    found = trial.found(version)
    assert found.calibration is not None
    assert found.calibration.version == "9"
    assert find_model_objection(found, limits)


def test_a_judge_that_lost_its_calibration_before_it_rated_rejects_nothing(
    trial: Trial,
) -> None:
    trial.calibrate()
    calibrate_anew(trial, "9", days=0)
    trial.second = WORSE
    found = trial.found(trial.rate_second())
    assert found.calibration is not None
    assert found.calibration.version == "9"
    assert find_model_objection(found, LIMITS.gates.judge) == ""
    assert trial.missing(found)


def test_what_the_author_had_a_model_say_stands_in_for_nobody(trial: Trial) -> None:
    trial.calibrate()
    version = trial.ledger.register("2")
    plan, opened = trial.ledger.open_for_model(version)
    replies = said(plan, BETTER)
    trial.ledger.model_rates(opened, replies, by="Lena", account="5 (lena)")
    (reason,) = trial.missing(trial.found(version))
    assert reason == "'Lena', who has it rate, trained the version"
    alone = policy(ModelRatingPolicy(min_items=20), author_may_rate=True)
    assert find_bias(replace(version, policy=alone), "lena", "5 (lena)") == ""
    unknown = find_bias(version, "olga", None)
    assert unknown == "'olga', who has it rate, cannot be told from the author"
    nobodys = version.origin.model_copy(update={"account": None})
    assert find_bias(replace(version, origin=nobodys), "olga", "7 (olga)") == unknown


def test_to_erase_what_a_model_said_takes_nothing_back(trial: Trial) -> None:
    trial.calibrate()
    version = trial.ledger.register("2")
    plan, opened = trial.ledger.open_for_model(version)
    worse = Interval(estimate=-3, low=-4, high=-2)
    given = trial.ledger.model_rates(opened, said(plan, WORSE), difference=worse)
    del trial.ledger.texts[given.replies_sha256]
    erased = trial.found(version)
    assert erased.difference == worse
    assert find_model_objection(erased, LIMITS.gates.judge)
    assert trial.missing(erased) == [erased.fault]
    assert "was erased" in erased.fault
    # Another judge's words under the digest of this one are nobody's.
    other = said(plan, BETTER, JUDGE.model_copy(update={"model": "another"}))
    trial.ledger.texts[given.replies_sha256] = other.model_dump_json()
    assert "cannot be read" in trial.found(version).fault


def test_a_plan_about_other_answers_than_were_scored_is_named(trial: Trial) -> None:
    trial.calibrate()
    version = trial.ledger.register("2")
    plan, _ = plan_review(version, (), Extent(12, 14), trial.ledger.state)
    place = next(place for place, item in enumerate(plan.items) if item.side)
    items = list(plan.items)
    items[place] = items[place].model_copy(update={"answer_sha256": "f" * 64})
    forged = plan.model_copy(update={"items": tuple(items)})
    made = {"version": "2", "package_sha256": package("2")}
    opened = trial.ledger.open(forged, **made)
    trial.ledger.model_rates(opened, said(forged, BETTER))
    found = trial.found(version)
    assert "scored answer" in found.fault
    assert found.judge == "my-judge at http://judge.test/v1"


# How it is entered.


@pytest.fixture
def on_disk(trial: Trial, tmp_path: Path) -> tuple[RatedVersion, Path]:
    home = tmp_path / "home"
    ledger = open_ledger(home)
    append(ledger, lambda _: registered())
    origin = ledger.state().registration(MODEL, "1")
    assert origin is not None
    return replace(trial.ledger.version, origin=origin), home


def test_what_a_model_said_is_entered_once_with_what_it_came_to(
    on_disk: tuple[RatedVersion, Path],
) -> None:
    version, home = on_disk
    ledger = open_ledger(home)
    by = By("olga", "7 (olga)")

    def records() -> Records:
        return Records(ledger.state(), ledger.recall)

    with pytest.raises(ReleaseError, match=r"has no review.*--by-model"):
        find_ratable(version, records(), JUDGE, by)
    plan, _ = plan_review(version, (), Extent(12, 14), ledger.state())
    opened = enter_opening(plan, by, ledger)
    with pytest.raises(ReleaseError, match="is a language model's"):
        find_open(version, ledger)
    # Whoever trained it would choose what answers behind the address.
    with pytest.raises(ReleaseError, match="'lena', who has it rate, trained the"):
        find_ratable(version, records(), JUDGE, By("lena", "5 (lena)"))
    review = find_ratable(version, records(), JUDGE, by)
    assert (review.recorded.opened, review.plan, review.number) == (opened, plan, 1)
    entered = enter_replies(version, review, said(plan, BETTER), by, ledger)
    assert (entered.generation, entered.asked) == (opened + 1, 32)
    assert len(entered.opinions.ratings) == 32
    (given,) = ledger.state().reviews[-1].model_ratings
    assert given.difference is not None
    assert given.difference.estimate == 3
    other = JUDGE.model_copy(update={"model": "another"})
    for judge in (JUDGE, other):
        with pytest.raises(ReleaseError, match="rated the review of version 1 of"):
            find_ratable(version, records(), judge, by)


def test_beside_people_each_judge_rates_once_and_an_erased_plan_is_named(
    on_disk: tuple[RatedVersion, Path],
) -> None:
    version, home = on_disk
    ledger = open_ledger(home)
    by = By("olga", "7 (olga)")
    plan, _ = plan_review(version, RATERS, Extent(12, 14), ledger.state())
    enter_opening(plan, by, ledger)
    records = Records(ledger.state(), ledger.recall)
    review = find_ratable(version, records, JUDGE, by)
    enter_replies(version, review, said(plan, BETTER), by, ledger)
    again = Records(ledger.state(), ledger.recall)
    with pytest.raises(ReleaseError, match="already"):
        find_ratable(version, again, JUDGE, by)
    other = JUDGE.model_copy(update={"model": "another"})
    assert find_ratable(version, again, other, by).plan == plan
    ledger.erase(review.recorded.plan_sha256)
    with pytest.raises(ReleaseError, match="was erased"):
        find_ratable(version, again, other, by)


def test_what_a_stolen_key_signed_of_a_models_rating_counts_no_more(
    trial: Trial,
) -> None:
    trial.calibrate()
    (review,) = trial.ledger.state.reviews
    (given,) = review.model_ratings
    stolen = given.model_copy(update={"key_id": "f" * 64})
    changed = review.model_copy(update={"model_ratings": (stolen,)})
    state = trial.ledger.state.model_copy(update={"reviews": (changed,)})
    (left,) = without_words_of(state, "f" * 64).reviews
    assert left.model_ratings == ()
    assert without_words_of(state, "e" * 64).reviews == (changed,)


@pytest.mark.parametrize(
    ("closed", "rated_by_model", "then", "is_before"),
    [
        (4, 3, 5, True),
        (3, 4, 5, True),
        # Closed, or rated, once it was known what the model says of this version.
        (6, 3, 5, False),
        (3, 6, 5, False),
        (5, 3, 5, False),
        (3, 5, 5, False),
    ],
)
def test_a_review_calibrates_what_is_said_after_both_have_rated_it(
    closed: int, rated_by_model: int, then: int, is_before: bool
) -> None:
    def said_at(generation: int) -> RecordedModelRating:
        return RecordedModelRating(
            generation=generation,
            at=SOME_TIME,
            judge_sha256="1" * 64,
            replies_sha256="2" * 64,
        )

    review = RecordedReview(
        opened=1,
        at=SOME_TIME,
        model=MODEL,
        version="1",
        package_sha256="3" * 64,
        plan_sha256="4" * 64,
        reviewers=("ann",),
        rated=closed,
    )
    both = RatedByBoth(review, said_at(rated_by_model), judge_number=1)
    assert both.is_before(said_at(then)) is is_before
