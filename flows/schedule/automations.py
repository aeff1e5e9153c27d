"""What Prefect does when a run dies: it marks silent runs as crashed, and reports crashed ones."""

from datetime import timedelta
from typing import TYPE_CHECKING

from flows.schedule.crashes import FLOWS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

# Four heartbeats: a server that restarts loses one or two.
SECONDS_OF_SILENCE = 120
_FINAL_STATES = (
    "Completed",
    "Failed",
    "Crashed",
    "Cancelled",
    "Cancelling",
    "Paused",
    "Suspended",
)


def install() -> None:
    """Create both automations, or update them; those that are up to date are left alone."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        reporter = client.read_deployment_by_name("tell-crash/crashed-runs").id
        for automation in (_silent_runs(), _crashed_runs(str(reporter))):
            _install(client, automation)


def _install(client: "SyncPrefectClient", automation: "AutomationCore") -> None:
    installed = client.read_automations_by_name(automation.name)
    # Two servers that started at once may both have created it.
    for duplicate in installed[1:]:
        client.delete_automation(duplicate.id)
    if not installed:
        client.create_automation(automation)
    elif _definition(installed[0]) != _definition(automation):
        client.update_automation(installed[0].id, automation)


def _definition(automation: "AutomationCore") -> dict[str, object]:
    """What it does, without the ids that the server gave it."""
    fields = {"description", "enabled", "trigger", "actions"}
    document = automation.model_dump(mode="json", include=fields)
    trigger = document["trigger"]
    # The server gives every trigger an id of its own.
    trigger.pop("id", None)
    for unordered in ("after", "expect", "for_each"):
        trigger[unordered] = sorted(trigger[unordered])
    return document


def _silent_runs() -> "AutomationCore":
    from prefect.client.schemas.objects import StateType
    from prefect.events import EventTrigger, Posture, ResourceSpecification
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore(
        name="Assay: silent runs are crashed runs",
        description=(
            f"A run that has said nothing for {SECONDS_OF_SILENCE} s is not running: "
            "its process or its machine is gone."
        ),
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={
                "prefect.flow-run.heartbeat",
                *(f"prefect.flow-run.{word}" for word in _FINAL_STATES),
            },
            match=ResourceSpecification(
                {"prefect.resource.id": ["prefect.flow-run.*"]}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SECONDS_OF_SILENCE),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"No sign of life for {SECONDS_OF_SILENCE} s: process or machine is gone.",
            )
        ],
    )


def _crashed_runs(reporter: str) -> "AutomationCore":
    from uuid import UUID

    from prefect.events import EventTrigger, Posture, ResourceSpecification
    from prefect.events.actions import RunDeployment
    from prefect.events.schemas.automations import AutomationCore

    def filled(template: str) -> dict[str, str]:
        return {"__prefect_kind": "jinja", "template": template}

    return AutomationCore(
        name="Assay: crashed runs are told",
        description="Starts tell-crash/crashed-runs, which tells people.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match=ResourceSpecification(
                {"prefect.resource.id": ["prefect.flow-run.*"]}
            ),
            # Only these: a crashed reporter would start itself for ever.
            match_related=ResourceSpecification(
                {
                    "prefect.resource.role": ["flow"],
                    "prefect.resource.name": list(FLOWS),
                }
            ),
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=UUID(reporter),
                parameters={
                    "flow_run_id": filled("{{ flow_run.id }}"),
                    "name": filled("{{ flow_run.name }}"),
                    "message": filled("{{ flow_run.state.message }}"),
                },
            )
        ],
    )
