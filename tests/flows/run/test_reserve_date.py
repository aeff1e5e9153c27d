"""When the reserve will hold a block again: a date where a rate is known, and else nothing."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.run.reserve_date import Shortage, say_when
from registry.mlflow.recorded import ScoredRun

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def run(days_ago: float, **metrics: float) -> ScoredRun:
    named = {f"held_out.{name}": count for name, count in metrics.items()}
    return ScoredRun(
        run_id="a" * 32,
        at=NOW - timedelta(days=days_ago),
        verdict="passed",
        is_rescore=False,
        version=None,
        primary="chrf",
        metrics=named,
    )


def shortage(
    standing: int = 20, sealed: int = 20, fewest: int = 37, lacking: int = 17
) -> Shortage:
    return Shortage(standing, sealed, fewest, lacking)


def test_the_date_follows_from_the_groups_that_came_since_the_oldest_run() -> None:
    # 20 groups in 10 days: one of each two is sealed, and 17 are missing.
    said = say_when(shortage(), [run(10, groups=10, sealed_groups=10)], NOW)
    assert said == (
        "At the present rate of 2 new held-out groups a day there will be enough on 2026-12-14"
    )


def test_a_larger_standing_half_asks_for_a_larger_block() -> None:
    # Three quarters of 100 is 75: of each new group there the block needs three quarters more.
    large = shortage(standing=100, sealed=70, fewest=37, lacking=5)
    assert large.to_come == pytest.approx(20)
    small = shortage(standing=10, sealed=30, fewest=37, lacking=7)
    assert small.to_come == 7


def test_what_is_older_than_90_days_does_not_count() -> None:
    runs = [run(200, groups=0, sealed_groups=0), run(10, groups=10, sealed_groups=10)]
    assert "rate of 2 new" in say_when(shortage(), runs, NOW)


@pytest.mark.parametrize(
    "runs",
    [
        (),
        # Of the same day.
        (run(0.9, groups=10, sealed_groups=5),),
        # From before counts were logged.
        (run(10),),
        # As many as today, and more than today.
        (run(10, groups=20, sealed_groups=20),),
        (run(10, groups=80, sealed_groups=40),),
        (run(91, groups=10, sealed_groups=5),),
        # One group in three months: beyond every calendar.
        (run(89, groups=19.9, sealed_groups=20),),
    ],
)
def test_without_a_rate_nothing_is_said(runs: tuple[ScoredRun, ...]) -> None:
    assert say_when(shortage(), runs, NOW) == ""


def test_a_run_without_a_reserve_had_no_sealed_groups() -> None:
    assert "rate of 2 new" in say_when(shortage(), [run(10, groups=20)], NOW)
