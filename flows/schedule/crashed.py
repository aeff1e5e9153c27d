"""Tells people of a run that crashed. Automations start it: the run itself cannot tell any more."""

from prefect import flow

from flows.run.report import link_to
from flows.run.workspace import find_project
from flows.schedule.notify import notify
from pipelines.settings import Settings


@flow(name="tell-crash", flow_run_name="crash of {name}")
def tell_crash(flow_run_id: str, name: str = "a run", message: str = "") -> None:
    """Tell people that a run crashed or fell silent.

    Args:
        flow_run_id: The run that crashed.
        name: Its name.
        message: What Prefect says of it.
    """
    home = find_project(Settings().home).home
    why = f" ({message})" if message and message != "None" else ""
    text = f"The run {name} crashed{why}. Start it again, or wait for the next scheduled one: nothing half done counts.\n"
    notify(home, "Assay: a run crashed", f"{text}Prefect: {link_to(flow_run_id)}")
