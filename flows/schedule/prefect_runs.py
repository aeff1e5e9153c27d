"""Flow runs that no process of Prefect's carries out: they show what happened elsewhere.

Prefect's API takes no time for the state of a flow run: a run begins at the time for which it was
scheduled, and a step (a task run) has its own times, since events carry them.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from pydantic import AwareDatetime

from core.value import Value
from flows.schedule.prefect_api import post

_LONGEST_MESSAGE = 2000
_INSTANT = timedelta(microseconds=1)


class RunState(Value):
    """A state as Prefect keeps it: its type, the word that people read, and a sentence."""

    type: str
    name: str
    message: str = ""


class RunSubject(Value):
    """What a run is about; the key makes it one run, however often it is created."""

    flow: str
    key: str
    name: str
    at: AwareDatetime
    parameters: dict[str, str]
    tags: tuple[str, ...]


class ShownRun(Value):
    """A run that is in Prefect, and the state in which it is there."""

    id: str
    state: RunState


class ShownStep(Value):
    """A step of a run: a task run, which is running where it has not ended."""

    key: str
    name: str
    began: AwareDatetime
    ended: AwareDatetime | None
    has_failed: bool
    message: str


def create_run(subject: RunSubject) -> ShownRun:
    """Create the run, or find the one that was created under its key."""
    flow = post("/flows/", {"name": subject.flow})
    # Prefect sorts by the time for which a run was scheduled. No worker asks for it: it is in no
    # queue.
    details = {"scheduled_time": subject.at.isoformat()}
    state = {"type": "SCHEDULED", "name": "Asked", "state_details": details}
    created = post(
        "/flow_runs/",
        {
            "flow_id": flow["id"],
            "name": subject.name,
            "idempotency_key": subject.key,
            "parameters": subject.parameters,
            "tags": list(subject.tags),
            "state": state,
        },
    )
    kept = created["state"] or {}
    return ShownRun(
        id=created["id"],
        state=RunState(
            type=kept.get("type") or "",
            name=kept.get("name") or "",
            message=kept.get("message") or "",
        ),
    )


def run_of(flow_run_id: str) -> ShownRun:
    """A run of which only the id is known."""
    # Not known, so that it equals none that is to be set.
    state = RunState(type="", name="")
    return ShownRun(
        id=flow_run_id,
        state=state,
    )


def set_state(run: ShownRun, state: RunState) -> None:
    """Set the run's state; nothing where it is in that state."""
    message = state.message[:_LONGEST_MESSAGE]
    cut = state.model_copy(update={"message": message})
    # The same words once more would be another event, to which a team may listen.
    if run.state == cut:
        return
    # By force: Prefect's rules are about runs that it carries out itself.
    body = {
        "state": cut.model_dump(),
        "force": True,
    }
    post(f"/flow_runs/{run.id}/set_state", body)


def record_steps(run: ShownRun, steps: Iterable[ShownStep]) -> None:
    """Record the steps under their keys; the same one twice is one."""
    # In one request: Prefect's server takes a list.
    events = [_event(run, step) for step in steps]
    if events:
        post("/events", events)


def put_markdown(run: ShownRun, key: str, text: str, description: str) -> None:
    """Show Markdown on the run's page, in place of what was shown there under that key."""
    wanted = {
        "artifacts": {
            "key": {"any_": [key]},
            "flow_run_id": {"any_": [run.id]},
        }
    }
    content = {"data": text, "description": description}
    found = post("/artifacts/filter", wanted)
    if found:
        post(f"/artifacts/{found[0]['id']}", content, method="PATCH")
        return
    # Artifacts have no key that makes them one, so it was looked for first.
    about = {"key": key, "type": "markdown", "flow_run_id": run.id}
    post("/artifacts/", {**about, **content})


def _event(run: ShownRun, step: ShownStep) -> dict[str, Any]:
    """The event from which Prefect's server records a task run, as its client sends it."""
    state = _state_of(step)
    # The end must be later than the beginning, or the server keeps the beginning.
    ended = None if step.ended is None else max(step.ended, step.began + _INSTANT)
    occurred = (ended or step.began).isoformat()
    task_run_id = uuid5(NAMESPACE_URL, f"{run.id} {step.key}")
    # Ids that follow from the step: the server drops what it has already.
    event_id = uuid5(task_run_id, f"{state.type} {occurred}")
    validated = {**state.model_dump(), "state_details": {}, "data": None}
    return {
        "id": str(event_id),
        "occurred": occurred,
        "event": f"prefect.task-run.{state.name}",
        "resource": {
            "prefect.resource.id": f"prefect.task-run.{task_run_id}",
            "prefect.resource.name": step.name,
            "prefect.state-type": state.type,
            "prefect.state-name": state.name,
            "prefect.state-message": state.message,
            "prefect.state-timestamp": occurred,
            "prefect.orchestration": "client",
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.flow-run.{run.id}",
                "prefect.resource.role": "flow-run",
            }
        ],
        "payload": {
            "intended": {"from": None, "to": state.type},
            "initial_state": None,
            "validated_state": validated,
            "task_run": _task_run(step, ended),
        },
    }


def _task_run(step: ShownStep, ended: datetime | None) -> dict[str, Any]:
    began = step.began.isoformat()
    task_run: dict[str, Any] = {
        "name": step.name,
        "task_key": "release-step",
        "dynamic_key": step.key,
        "expected_start_time": began,
        "start_time": began,
        "run_count": 1,
        "tags": [],
    }
    if ended is None:
        return task_run
    # Prefect's pages show this as how long it took.
    seconds = (ended - step.began).total_seconds()
    return {
        **task_run,
        "end_time": ended.isoformat(),
        "total_run_time": seconds,
    }


def _state_of(step: ShownStep) -> RunState:
    message = step.message[:_LONGEST_MESSAGE]
    if step.ended is None:
        name = "Running"
    elif step.has_failed:
        name = "Failed"
    else:
        name = "Completed"
    return RunState(
        type=name.upper(),
        name=name,
        message=message,
    )
