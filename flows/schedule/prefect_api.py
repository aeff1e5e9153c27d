"""The little that Assay asks of a Prefect server: what is scheduled, what ran, and a doorbell."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx

from core.address import shown
from core.environment import prefect_address
from core.errors import OperationError
from core.value import Value
from flows.schedule.prefect_login import authorization

SECONDS_TO_ANSWER = 10.0


class Schedule(Value):
    """When a deployment is to run by itself."""

    deployment_id: str
    deployment: str
    cron: str
    timezone: str
    day_or: bool = True
    """As cron: where day of month and day of week are both named, either will do."""


class CrashedRun(Value):
    """A run whose process is gone, and what Prefect says of it."""

    id: str
    name: str
    message: str


def is_configured() -> bool:
    """Whether there is a server to ask."""
    address = os.environ.get("PREFECT_API_URL")
    return bool(address)


def deployment_parameters(name: str) -> list[dict[str, Any]]:
    """The parameters of the deployments FLOW/NAME and FLOW/NAME-MODEL that are not paused."""
    flow, _, deployment = name.partition("/")
    # Prefect's filter wants the two halves of the name apart.
    wanted = {
        "flows": {"name": {"any_": [flow]}},
        "deployments": {"name": {"like_": deployment}},
    }
    return [
        each["parameters"]
        for each in post("/deployments/filter", wanted)
        if not each["paused"]
    ]


def cron_schedules() -> list[Schedule]:
    """Every cron schedule that is on."""
    deployments = [
        each for each in post("/deployments/filter", {}) if not each["paused"]
    ]
    return [
        Schedule(
            deployment_id=each["id"],
            deployment=each["name"],
            cron=entry["schedule"]["cron"],
            timezone=entry["schedule"].get("timezone") or "UTC",
            day_or=entry["schedule"].get("day_or", True),
        )
        for each in deployments
        for entry in each["schedules"]
        if entry["active"] and "cron" in entry["schedule"]
    ]


def times(schedule: Schedule, start: datetime, end: datetime) -> list[datetime]:
    """When it is to run, as Prefect computes it.

    In a night when clocks change Prefect and croniter disagree.
    """
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule

    # Nothing can be due in an empty span.
    if start > end:
        return []
    cron = CronSchedule(
        cron=schedule.cron, timezone=schedule.timezone, day_or=schedule.day_or
    )
    return [
        due.astimezone(UTC) for due in asyncio.run(cron.get_dates(start=start, end=end))
    ]


def has_run(deployment_id: str, at: datetime) -> bool:
    """Whether the run that was due at that time has begun."""
    # Within a second: Prefect's time may carry fractions.
    span = {
        "after_": (at - timedelta(seconds=1)).isoformat(),
        "before_": (at + timedelta(seconds=1)).isoformat(),
    }
    wanted = {
        "deployments": {"id": {"any_": [deployment_id]}},
        "flow_runs": {"expected_start_time": span},
    }
    return any(
        run["start_time"] is not None for run in post("/flow_runs/filter", wanted)
    )


def crashed_runs(
    flows: Sequence[str], after: datetime, before: datetime
) -> list[CrashedRun]:
    """Runs of these flows that crashed between those times."""
    # Crashed is not failed: a failed run has reported itself.
    state = {"type": {"any_": ["CRASHED"]}}
    span = {"after_": after.isoformat(), "before_": before.isoformat()}
    wanted = {
        "flows": {"name": {"any_": list(flows)}},
        "flow_runs": {"state": state, "end_time": span},
    }
    return [
        CrashedRun(
            id=run["id"],
            name=run["name"],
            message=(run["state"] or {}).get("message") or "",
        )
        for run in post("/flow_runs/filter", wanted)
    ]


def emit(event: str, resource: Mapping[str, str], payload: Mapping[str, str]) -> None:
    """Send an event; once this returns the server has it."""
    whole = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": resource,
        "payload": payload,
    }
    post("/events", [{**whole, "related": []}])


def post(path: str, body: Any, method: str = "POST") -> Any:
    """Ask the server; `OperationError` where it does not answer as it should."""
    # Asked first: it takes a login out of the address, from which the headers are made.
    url = (prefect_address() or "").rstrip("/")
    with _explained(), httpx.Client(timeout=SECONDS_TO_ANSWER) as client:
        headers = authorization()
        answer = client.request(method, url + path, json=body, headers=headers)
        # A refusal is an answer as well, and must not pass for an empty list.
        answer.raise_for_status()
        if not answer.content:
            return None
        return answer.json()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, ValueError) as error:
        where = shown(os.environ.get("PREFECT_API_URL", ""))
        raise OperationError(
            f"Prefect at {where} does not answer as it should ({type(error).__name__}). "
            "`assay status` says what runs."
        ) from error
