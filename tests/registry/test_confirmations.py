"""Blocks of the sealed reserve in the ledger: each is spent once, at the level that is left."""

from datetime import timedelta

import pytest

from core.errors import IllegalEntry
from pipelines.statistics.spending import YEARLY_LEVEL, level_of
from registry.ledger.confirmations import (
    confirmations_of_year,
    next_is_possible_at,
    next_level,
)
from registry.ledger.entries import BlockClosed
from tests.support.confirmations import closed, opened
from tests.support.ledgers import MODEL, Chain, adapter

DAY, YEAR = timedelta(days=1), timedelta(days=365)


def test_a_block_is_spent_by_the_entry_that_opens_it() -> None:
    chain = Chain()
    chain.add(opened(1))
    (recorded,) = chain.ledger_state.confirmations_of(MODEL)
    assert (recorded.generation, recorded.closed) == (2, None)
    assert not recorded.is_confirmed
    # The run that opened it was killed: the next one has the second level all the same.
    assert next_level(chain.ledger_state, MODEL, chain.ledger_state.at) == level_of(2)
    assert chain.ledger_state.confirmations_of("others") == ()


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_a_block_is_closed_once_with_what_it_showed(is_confirmed: bool) -> None:
    chain = Chain()
    chain.add(opened(1), closed(2, is_confirmed=is_confirmed))
    (recorded,) = chain.ledger_state.confirmations_of(MODEL)
    assert recorded.is_confirmed is is_confirmed
    with pytest.raises(IllegalEntry, match="no block of letters that was opened at 2"):
        chain.add(closed(2, is_confirmed=True))


@pytest.mark.parametrize("body", [closed(1), closed(3), closed(2, model="others")])
def test_only_a_block_that_was_opened_is_closed(body: BlockClosed) -> None:
    chain = Chain()
    chain.add(opened(1))
    with pytest.raises(IllegalEntry, match="is open"):
        chain.add(body)


def test_closing_one_block_leaves_the_others_as_they_were() -> None:
    chain = Chain()
    chain.add(opened(1), closed(2), opened(2))
    chain.add(closed(4, is_confirmed=True))
    first, second = chain.ledger_state.confirmations_of(MODEL)
    assert (first.is_confirmed, second.is_confirmed) == (False, True)


def test_what_was_confirmed_hands_its_level_on_and_what_failed_does_not() -> None:
    chain = Chain()
    chain.add(opened(1), closed(2, is_confirmed=True))
    handed = level_of(2, level_of(1))
    with pytest.raises(IllegalEntry, match="confirmation 2 of letters has the level"):
        chain.add(opened(2))
    chain.add(opened(2, handed), closed(4))
    chain.add(opened(3, level_of(3)))


def test_what_is_handed_on_from_year_to_year_never_exceeds_the_error_of_one() -> None:
    chain = Chain()
    for place in range(24):
        at = chain.ledger_state.at + 60 * DAY
        number = len(confirmations_of_year(chain.ledger_state, MODEL, at)) + 1
        level = next_level(chain.ledger_state, MODEL, at)
        assert level is not None
        assert level <= YEARLY_LEVEL
        block = opened(
            number,
            level,
            rows_sha256=adapter(f"block {place}"),
            adapter_sha256=adapter(f"candidate {place}"),
        )
        chain.add(block, later=60 * DAY)
        chain.add(closed(chain.ledger_state.head.generation, is_confirmed=True))


@pytest.mark.parametrize(
    ("number", "level"),
    [(2, None), (2, level_of(1)), (1, 0.05), (1, level_of(1) * (1 + 1e-8))],
)
def test_another_number_or_level_than_the_next_is_refused(
    number: int, level: float | None
) -> None:
    with pytest.raises(IllegalEntry, match="confirmation 1 of letters has the level"):
        Chain().add(opened(number, level))


def test_a_level_may_differ_in_its_last_digits() -> None:
    Chain().add(opened(1, level_of(1) * (1 + 1e-12)))


def test_no_block_is_opened_twice_and_no_adapter_tried_twice() -> None:
    chain = Chain()
    chain.add(opened(1), closed(2))
    with pytest.raises(IllegalEntry, match="entry 2 opened the same block"):
        chain.add(opened(2, rows_sha256=adapter("rows 1")))
    with pytest.raises(IllegalEntry, match="entry 2 tried this adapter"):
        chain.add(opened(2, adapter_sha256=adapter("1")))
    # Against another champion it is another question.
    chain.add(
        opened(2, adapter_sha256=adapter("1"), against_sha256=adapter("new champion"))
    )
    with pytest.raises(IllegalEntry, match="entry 2 tried this adapter"):
        chain.add(opened(1, model="others"))
    # Another model has rows and a year of its own.
    chain.add(
        opened(
            1,
            model="others",
            rows_sha256=adapter("rows 1"),
            adapter_sha256=adapter("its own"),
        )
    )


def test_a_year_has_twelve_and_the_next_one_waits_until_the_oldest_is_a_year_old() -> (
    None
):
    chain = Chain()
    for number in range(1, 13):
        chain.add(opened(number), later=DAY)
    now = chain.ledger_state.at
    assert next_level(chain.ledger_state, MODEL, now) is None
    first = chain.ledger_state.confirmations_of(MODEL)[0].at
    assert next_is_possible_at(chain.ledger_state, MODEL, now) == first + YEAR
    with pytest.raises(IllegalEntry, match="had 12 confirmations within 365 days"):
        chain.add(opened(13))
    # A year after the first there are eleven, so that the next is the twelfth again.
    to_wait = first + YEAR - now
    chain.add(
        opened(12, rows_sha256=adapter("new"), adapter_sha256=adapter("new")),
        later=to_wait,
    )


def test_a_confirmation_of_the_very_beginning_of_the_year_counts_no_more() -> None:
    chain = Chain()
    chain.add(opened(1))
    with pytest.raises(IllegalEntry, match="confirmation 2 of letters"):
        chain.add(
            opened(1, rows_sha256=adapter("new"), adapter_sha256=adapter("new")),
            later=YEAR - timedelta(microseconds=1),
        )
    chain.add(
        opened(1, rows_sha256=adapter("new"), adapter_sha256=adapter("new")), later=YEAR
    )
