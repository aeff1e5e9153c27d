"""How a year's error is shared out: the levels add up to it, whatever the confirmations find."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.statistics.spending import YEARLY_LEVEL, level_of, share_of


def test_the_levels_are_those_of_the_published_sequence() -> None:
    levels = [level_of(number) for number in (1, 2, 3, 4, 12)]
    assert levels == pytest.approx(
        [0.021874, 0.007216, 0.003772, 0.002380, 0.000411], abs=1e-6
    )


def test_all_shares_of_a_year_add_up_to_one() -> None:
    counted = math.fsum(share_of(number) for number in range(1, 200_001))
    # The rest of the sum lies between two integrals of x^-1.6.
    rest = 200_000.5**-0.6 / 0.6 / 2.28576566568013
    assert counted + rest == pytest.approx(1.0, abs=1e-9)


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_what_is_spent_on_confirmations_that_fail_never_exceeds_the_year(
    passes: list[bool],
) -> None:
    spent, handed_on = 0.0, 0.0
    for place, is_confirmed in enumerate(passes, start=1):
        level = level_of(place, handed_on)
        # A level is handed on whole by what passes, and spent by what fails.
        spent += 0.0 if is_confirmed else level
        handed_on = level if is_confirmed else 0.0
    assert spent <= YEARLY_LEVEL


@pytest.mark.parametrize("number", [0, -1, math.nan])
def test_a_confirmation_is_counted_from_one(number: float) -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        share_of(number)  # type: ignore[arg-type]


@pytest.mark.parametrize("handed_on", [-0.001, 1.0, math.nan])
def test_what_is_handed_on_is_a_level(handed_on: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        level_of(2, handed_on)
