"""Reviews in the ledger: opened with a sealed plan, closed once."""

from typing import Any

import pytest

from core.errors import IllegalEntry
from registry.ledger.entries import ModelRated, Rated, ReviewOpened
from registry.ledger.people import without_words_of
from tests.support.ledgers import MODEL, WHY, Chain, package, registered


@pytest.fixture
def chain() -> Chain:
    known = Chain()
    known.add(registered(), registered("2"))
    return known


def opened(version: str = "1", **changes: Any) -> ReviewOpened:
    facts: dict[str, Any] = {
        "by": "lena",
        "account": "5 (lena)",
        "model": MODEL,
        "version": version,
        "package_sha256": package(version),
        "against": "base",
        "plan_sha256": WHY,
        "reviewers": ("ann", "bob"),
    }
    return ReviewOpened(**{**facts, **changes})


def rated(generation: int, version: str = "1", **changes: Any) -> Rated:
    facts: dict[str, Any] = {
        "by": "lena",
        "model": MODEL,
        "version": version,
        "package_sha256": package(version),
        "opened": generation,
        "ratings_sha256": "1" * 64,
        "raters": 2,
        "prompts": 12,
    }
    return Rated(**{**facts, **changes})


def model_rated(generation: int, version: str = "1", **changes: Any) -> ModelRated:
    facts: dict[str, Any] = {
        "by": "lena",
        "model": MODEL,
        "version": version,
        "package_sha256": package(version),
        "opened": generation,
        "judge_sha256": "a" * 64,
        "replies_sha256": "2" * 64,
        "items": 32,
    }
    return ModelRated(**{**facts, **changes})


def test_beside_people_each_judge_rates_once_open_or_closed(chain: Chain) -> None:
    chain.add(opened())
    at = chain.last
    chain.add(model_rated(at), rated(at))
    state = chain.add(model_rated(at, judge_sha256="b" * 64))
    (review,) = state.reviews
    judges = [given.judge_sha256[0] for given in review.model_ratings]
    assert (judges, review.rated) == (["a", "b"], chain.last - 1)
    for judge in ("a", "b"):
        with pytest.raises(IllegalEntry, match="a model rated that review already"):
            chain.add(model_rated(at, judge_sha256=judge * 64))


def test_where_nobody_was_asked_one_model_rates_and_no_people_do(chain: Chain) -> None:
    chain.add(opened(reviewers=()))
    at = chain.last
    with pytest.raises(IllegalEntry, match=f"entry {at} asked nobody, but a model"):
        chain.add(rated(at))
    chain.add(model_rated(at))
    first = chain.last
    # Another judge is another try, too.
    with pytest.raises(IllegalEntry, match=f"already, at entry {first}"):
        chain.add(model_rated(at, judge_sha256="b" * 64))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (model_rated(9), "entry 9 opened no review of version 1"),
        (model_rated(4, "2"), "entry 4 opened no review of version 2"),
        (model_rated(4, "3"), "does not know version 3"),
        (model_rated(4, package_sha256="f" * 64), "registered other bytes"),
    ],
)
def test_a_model_rates_no_review_of_another_version(
    chain: Chain, body: ModelRated, said: str
) -> None:
    chain.add(opened())
    with pytest.raises(IllegalEntry, match=said):
        chain.add(body)


def test_a_number_that_was_given_out_again_has_no_older_review_for_a_model(
    chain: Chain,
) -> None:
    chain.add(opened())
    at = chain.last
    again = registered().model_copy(update={"package_sha256": "f" * 64})
    chain.add(again)
    with pytest.raises(IllegalEntry, match="opened no review"):
        chain.add(model_rated(at, package_sha256="f" * 64))


def test_a_review_is_closed_once(chain: Chain) -> None:
    chain.add(opened())
    at = chain.last
    state = chain.add(rated(at))
    (review,) = state.reviews_of(MODEL, "1")
    assert (review.opened, review.rated) == (at, chain.last)
    assert review.ratings_sha256 == "1" * 64
    assert state.open_review(MODEL, "1") is None
    with pytest.raises(IllegalEntry, match="is not the open one of version 1"):
        chain.add(rated(at))


def test_a_second_review_takes_the_place_of_an_open_one(chain: Chain) -> None:
    chain.add(opened())
    first = chain.last
    state = chain.add(opened(plan_sha256="2" * 64))
    review = state.open_review(MODEL, "1")
    assert review is not None
    assert review.opened == chain.last
    assert len(state.reviews_of(MODEL, "1")) == 2
    with pytest.raises(IllegalEntry, match=f"the review of entry {first}"):
        chain.add(rated(first))


def test_a_plan_is_opened_once(chain: Chain) -> None:
    chain.add(opened())
    first = chain.last
    chain.add(rated(first))
    # Closed again, it would come to what suits.
    with pytest.raises(IllegalEntry, match=f"entry {first} opened a review with"):
        chain.add(opened())


def test_a_review_of_one_version_is_not_closed_as_that_of_another(chain: Chain) -> None:
    chain.add(opened("2"))
    at = chain.last
    with pytest.raises(IllegalEntry, match="not the open one of version 1"):
        chain.add(rated(at))
    assert chain.add(rated(at, "2")).reviews_of(MODEL, "1") == ()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (opened("3"), "does not know version 3"),
        (opened(package_sha256="f" * 64), "registered other bytes"),
        (opened(reviewers=("ann", "ann")), "named twice"),
        (rated(4, package_sha256="f" * 64), "registered other bytes"),
        (rated(9), "the review of entry 9"),
    ],
)
def test_what_is_about_other_bytes_or_nobody_does_not_follow(
    chain: Chain, body: ReviewOpened | Rated, said: str
) -> None:
    chain.add(opened())
    with pytest.raises(IllegalEntry, match=said):
        chain.add(body)


def test_a_number_that_was_given_out_again_does_not_close_the_older_review(
    chain: Chain,
) -> None:
    chain.add(opened())
    at = chain.last
    # MLflow was lost, and its numbers begin again.
    again = registered().model_copy(update={"package_sha256": "f" * 64})
    chain.add(again)
    with pytest.raises(IllegalEntry, match="about other bytes"):
        chain.add(rated(at, package_sha256="f" * 64))


def test_what_a_stolen_key_signed_of_a_review_counts_no_more(chain: Chain) -> None:
    chain.add(opened())
    # Opened and closed by the same key.
    state = chain.add(rated(chain.last))
    assert without_words_of(state, chain.key.public.key_id).reviews == ()
    assert without_words_of(state, "f" * 64).reviews == state.reviews
