"""A scheduled run that did not run: somebody is told, once."""

import time
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


class Watched(Value):
    """A schedule, and the time up to which every run that was due has begun or was told to be missing."""

    schedule: Schedule
    since: AwareDatetime


class Watch(Value):
    """What `HOME/schedules.json` remembers: with Prefect gone it still says what was due."""

    looked: float = 0.0
    watched: tuple[Watched, ...] = ()


def watch_schedules(
    project: Project, grace: timedelta = GRACE, now: datetime | None = None
) -> tuple[str, ...]:
    """Tell of every run that was due and has not begun within the grace; a sentence for each."""
    path, now = project.home / "schedules.json", now or datetime.now(UTC)
    before = _read(path)
    if (
        not prefect_api.is_configured()
        or 0 <= time.time() - before.looked < SECONDS_BETWEEN_LOOKS
    ):
        return ()
    watched, is_reachable = _watched(before, now)
    dues = [(each, _due(each, now - grace)) for each in watched]
    found = [
        _missing(each.schedule, due, is_reachable)
        for each, times in dues
        for due in times
    ]
    settled = tuple(
        each.model_copy(update={"since": times[-1]}) if times else each
        for each, times in dues
    )
    Watch(looked=time.time(), watched=settled).write(path)
    told = tuple(sentence for sentence in found if sentence is not None)
    for sentence in told:
        notify(project.home, "Assay: a scheduled run did not run", sentence)
    return told


def _watched(before: Watch, now: datetime) -> tuple[tuple[Watched, ...], bool]:
    """The schedules as Prefect has them, each since when it was first seen so; the remembered ones where it does not answer."""
    try:
        schedules = prefect_api.cron_schedules()
    except OperationError:
        return before.watched, False
    known = {each.schedule: each for each in before.watched}
    return tuple(
        known.get(schedule, Watched(schedule=schedule, since=now))
        for schedule in schedules
    ), True


def _due(watched: Watched, until: datetime) -> list[datetime]:
    """Every time at which it was to run, since it is watched and not longer ago than anybody would want to hear of."""
    start = max(watched.since, until - LOOKS_BACK)
    return [
        due for due in prefect_api.times(watched.schedule, start, until) if due > start
    ][-_MOST:]


def _missing(schedule: Schedule, due: datetime, is_reachable: bool) -> str | None:
    """What to tell; None where it has begun."""
    when = f"{schedule.deployment}, due at {due:%Y-%m-%d %H:%M} UTC"
    if not is_reachable:
        return f"{when}, is not known to have run: Prefect does not answer. `assay status` says what runs."
    if prefect_api.has_run(schedule.deployment_id, due):
        return None
    return f"{when}, did not run. `assay status` says whether Prefect and its worker run; start it in Prefect's UI, or wait for the next."


def _read(path: Path) -> Watch:
    try:
        return Watch.read(path)
    except DamagedFile:
        return Watch()
