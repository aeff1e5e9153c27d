"""A run that was due and did not begin is told, once, whether Prefect still answers or not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.notify import notices
from core.project import Project
from flows.schedule.overdue import ScheduleWatch, WatchedSchedule, watch_schedules
from tests.support.deployments import Automatic, Nights

pytestmark = pytest.mark.ci

GRACE = timedelta(minutes=15)


@pytest.fixture
def project(
    running: Automatic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Project:
    monkeypatch.setenv("PREFECT_API_URL", running.api)
    monkeypatch.delenv("ASSAY_NOTIFY", raising=False)
    monkeypatch.setattr("flows.schedule.overdue.SECONDS_BETWEEN_LOOKS", 0)
    return Project(running.checkout.root, tmp_path)


def looked_since(project: Project, since: datetime) -> tuple[WatchedSchedule, ...]:
    """As if the controller had looked the last time then."""
    watch_schedules(project)
    watched = ScheduleWatch.read(project.home / "schedules.json").watched
    moved = tuple(each.model_copy(update={"since": since}) for each in watched)
    ScheduleWatch(watched=moved).write(project.home / "schedules.json")
    return moved


def of_weekly(told: tuple[str, ...]) -> list[str]:
    return [
        sentence for sentence in told if sentence.startswith("weekly-rescore, due at ")
    ]


def test_a_run_that_did_not_begin_is_told_once(project: Project) -> None:
    due = next_sunday_at_five()
    looked_since(project, due - timedelta(hours=1))
    (told,) = of_weekly(watch_schedules(project, now=due + timedelta(hours=1)))
    assert told.startswith(
        f"weekly-rescore, due at {due:%Y-%m-%d} 05:00 UTC, did not run. `assay status`"
    )
    assert of_weekly(watch_schedules(project, now=due + timedelta(hours=2))) == []
    assert told in {notice.text for notice in notices(project.home)}


def test_what_was_due_before_anybody_looked_is_not_missed(project: Project) -> None:
    assert watch_schedules(project) == ()
    assert watch_schedules(project) == ()


def test_a_run_that_did_begin_is_not_told(project: Project, nights: Nights) -> None:
    due = datetime.fromisoformat(nights.first.run["expected_start_time"])
    looked_since(project, due - timedelta(minutes=1))
    assert [
        told
        for told in watch_schedules(project, now=due + GRACE + timedelta(minutes=1))
        if told.startswith("nightly")
    ] == []


def test_within_the_grace_nobody_is_told(project: Project) -> None:
    (weekly, *_) = [
        each
        for each in looked_since(project, datetime.now(UTC))
        if each.schedule.deployment == "weekly-rescore"
    ]
    due = next_sunday_at_five()
    assert weekly.schedule.cron == "0 5 * * 0"
    assert (
        of_weekly(watch_schedules(project, now=due + GRACE - timedelta(seconds=1)))
        == []
    )
    assert (
        len(of_weekly(watch_schedules(project, now=due + GRACE + timedelta(seconds=1))))
        == 1
    )


def test_with_prefect_gone_it_is_told_from_memory(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = next_sunday_at_five()
    looked_since(project, due - timedelta(hours=1))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    (told,) = of_weekly(watch_schedules(project, now=due + timedelta(hours=1)))
    assert "is not known to have run: Prefect does not answer" in told
    assert of_weekly(watch_schedules(project, now=due + timedelta(hours=2))) == []


def test_a_schedule_is_watched_on_the_days_that_it_has_in_prefect(
    project: Project, running: Automatic
) -> None:
    before = running.deployment("rescore/weekly-rescore")["schedules"][0]["schedule"]
    running.reschedule("rescore/weekly-rescore", {**before, "day_or": False})
    watched = {
        each.schedule.deployment: each.schedule.day_or
        for each in looked_since(project, datetime.now(UTC))
    }
    running.reschedule("rescore/weekly-rescore", before)
    assert watched == {"nightly": True, "weekly-rescore": False}


def next_sunday_at_five() -> datetime:
    from croniter import croniter

    due: datetime = croniter("0 5 * * 0", datetime.now(UTC)).get_next(datetime)
    return due
