"""Report, once, a scheduled run that did not run."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime

from core.errors import DamagedFile, OperationError
from core.notify import notify
from core.project import Project
from core.value import Value
from flows.schedule import prefect_api
from flows.schedule.prefect_api import Schedule

GRACE = timedelta(minutes=15)
LOOKS_BACK = timedelta(days=8)
SECONDS_BETWEEN_LOOKS = 30.0
_MOST = 100


class WatchedSchedule(Value):
    """A schedule, and the time up to which every run that was due has begun or was reported."""

    schedule: Schedule
    since: AwareDatetime


class ScheduleWatch(Value):
    """What `HOME/schedules.json` remembers, so that it is known without Prefect what was due."""

    looked: float = 0.0
    watched: tuple[WatchedSchedule, ...] = ()


def watch_schedules(
    project: Project, grace: timedelta = GRACE, now: datetime | None = None
) -> tuple[str, ...]:
    """Report every run that was due and has not begun within the grace; a sentence for each."""
    path = project.home / "schedules.json"
    now = now or datetime.now(UTC)
    # Without it a restart of the controller would report every run again.
    memory = _read_memory(path)
    if not prefect_api.is_configured() or _looked_just_now(memory):
        return ()
    schedules, is_reachable = _current_schedules(memory, now)
    sentences: list[str] = []
    settled = []
    for watched in schedules:
        due_times = _due_times(watched, now - grace)
        sentences += _missing_runs(watched.schedule, due_times, is_reachable)
        # What was due is settled, whether it has run or was reported.
        since = due_times[-1] if due_times else watched.since
        settled.append(watched.model_copy(update={"since": since}))
    # Written before anybody is told: a message that fails is better lost than sent every minute.
    ScheduleWatch(looked=time.time(), watched=tuple(settled)).write(path)
    for sentence in sentences:
        notify(project.home, "Assay: a scheduled run did not run", sentence)
    return tuple(sentences)


def _looked_just_now(memory: ScheduleWatch) -> bool:
    # A clock that was set back gives a negative time: then look again.
    age = time.time() - memory.looked
    return 0 <= age < SECONDS_BETWEEN_LOOKS


def _current_schedules(
    memory: ScheduleWatch, now: datetime
) -> tuple[tuple[WatchedSchedule, ...], bool]:
    """The schedules that Prefect has, each with the time since when it is watched.

    Where Prefect does not answer: the remembered ones, and False.
    """
    try:
        schedules = prefect_api.cron_schedules()
    except OperationError:
        # People must hear of a run that Prefect lost.
        return memory.watched, False
    remembered = {watched.schedule: watched for watched in memory.watched}
    watched_schedules = []
    for schedule in schedules:
        begun = WatchedSchedule(schedule=schedule, since=now)
        watched = remembered.get(schedule, begun)
        watched_schedules.append(watched)
    return tuple(watched_schedules), True


def _due_times(watched: WatchedSchedule, until: datetime) -> list[datetime]:
    """The times at which it was to run since it is watched, at most eight days back."""
    # After a long pause nobody wants to hear of every night of a month.
    earliest = until - LOOKS_BACK
    start = max(watched.since, earliest)
    times = prefect_api.times(watched.schedule, start, until)
    missing = [due for due in times if due > start]
    return missing[-_MOST:]


def _missing_runs(
    schedule: Schedule, due_times: list[datetime], is_reachable: bool
) -> Iterator[str]:
    """A sentence for each due time at which no run has begun."""
    for due in due_times:
        run = f"{schedule.deployment}, due at {due:%Y-%m-%d %H:%M} UTC"
        if not is_reachable:
            yield (
                f"{run}, is not known to have run: Prefect does not answer. "
                "`assay status` says what runs."
            )
        elif not prefect_api.has_run(schedule.deployment_id, due):
            yield (
                f"{run}, did not run. `assay status` says whether Prefect and its worker run; "
                "start it in Prefect's UI, or wait for the next."
            )


def _read_memory(path: Path) -> ScheduleWatch:
    try:
        return ScheduleWatch.read(path)
    except DamagedFile:
        return ScheduleWatch()
