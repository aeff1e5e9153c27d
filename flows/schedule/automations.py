"""What Prefect does by itself when a run dies: silent runs become crashed ones, and crashed ones are told to people."""

from datetime import timedelta
from typing import TYPE_CHECKING

from flows.schedule.crashes import FLOWS

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

SECONDS_OF_SILENCE = 120  # four heartbeats: a server that restarts loses one or two
_LAST_WORDS = (
    "Completed",
    "Failed",
    "Crashed",
    "Cancelled",
    "Cancelling",
    "Paused",
    "Suspended",
)


def install() -> None:
    """Create both automations, or bring them to this form; those that are so already are left alone."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        teller = client.read_deployment_by_name("tell-crash/crashed-runs").id
        for wanted in (_silent_runs(), _crashed_runs(str(teller))):
            _install(client, wanted)


def _install(client: "SyncPrefectClient", wanted: "AutomationCore") -> None:
    there = client.read_automations_by_name(wanted.name)
    for double in there[1:]:
        client.delete_automation(double.id)
    if not there:
        client.create_automation(wanted)
    elif _form(there[0]) != _form(wanted):
        client.update_automation(there[0].id, wanted)


def _form(automation: "AutomationCore") -> dict[str, object]:
    """What it does, without the numbers that the server gave it."""
    plain = automation.model_dump(
        mode="json", include={"description", "enabled", "trigger", "actions"}
    )
    plain["trigger"].pop("id", None)
    for unordered in ("after", "expect", "for_each"):
        plain["trigger"][unordered] = sorted(plain["trigger"][unordered])
    return plain


def _silent_runs() -> "AutomationCore":
    from prefect.client.schemas.objects import StateType
    from prefect.events import EventTrigger, Posture, ResourceSpecification
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore

    return AutomationCore(
        name="Assay: silent runs are crashed runs",
        description=f"A run that has said nothing for {SECONDS_OF_SILENCE} s is not running: its process or its machine is gone.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={
                "prefect.flow-run.heartbeat",
                *(f"prefect.flow-run.{word}" for word in _LAST_WORDS),
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


def _crashed_runs(teller: str) -> "AutomationCore":
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
            # Only these: a teller that crashed would start itself for ever.
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
                deployment_id=UUID(teller),
                parameters={
                    "flow_run_id": filled("{{ flow_run.id }}"),
                    "name": filled("{{ flow_run.name }}"),
                    "message": filled("{{ flow_run.state.message }}"),
                },
            )
        ],
    )
