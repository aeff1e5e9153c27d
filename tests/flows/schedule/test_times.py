"""When a schedule was due, in nights when clocks change.

As Prefect starts it, or people are told of runs that ran.
"""

from datetime import UTC, datetime, timedelta

import pytest

from flows.schedule.prefect_api import Schedule, times

DAY = timedelta(days=1)


def due_within_a_day(cron: str, timezone: str, start: datetime) -> list[datetime]:
    return times(
        Schedule(deployment_id="1", deployment="nightly", cron=cron, timezone=timezone),
        start,
        start + DAY,
    )


@pytest.mark.parametrize(
    ("cron", "timezone", "day", "dues"),
    [
        ("0 2 * * *", "UTC", datetime(2026, 3, 8, tzinfo=UTC), ["02:00"]),
        ("0 2 * * *", "America/New_York", datetime(2026, 3, 8, tzinfo=UTC), ["06:00"]),
        (
            "30 1 * * *",
            "America/New_York",
            datetime(2026, 11, 1, tzinfo=UTC),
            ["05:30"],
        ),
        ("30 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), ["00:30"]),
    ],
)
def test_when_clocks_change_a_nightly_run_is_due_when_prefect_starts_it(
    cron: str, timezone: str, day: datetime, dues: list[str]
) -> None:
    assert [f"{due:%H:%M}" for due in due_within_a_day(cron, timezone, day)] == dues


def test_before_the_start_nothing_was_due() -> None:
    schedule = Schedule(
        deployment_id="1", deployment="nightly", cron="* * * * *", timezone="UTC"
    )
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert times(schedule, start, start - timedelta(seconds=1)) == []


@pytest.mark.parametrize(("day_or", "days"), [(True, [6, 13, 20, 27]), (False, [13])])
def test_friday_the_thirteenth_is_not_every_friday(
    *, day_or: bool, days: list[int]
) -> None:
    schedule = Schedule(
        deployment_id="1",
        deployment="monthly",
        cron="0 5 13 * 5",
        timezone="UTC",
        day_or=day_or,
    )
    dues = times(
        schedule, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)
    )
    assert [due.day for due in dues] == days
