"""Tells people of a run that crashed. Automations start it: the run itself cannot tell any more."""

from prefect import flow

from core.project import find_project
from core.settings import Settings
from flows.schedule.crashes import tell_of_crash


@flow(name="tell-crash", flow_run_name="crash of {name}")
def tell_crash(flow_run_id: str, name: str = "a run", message: str = "") -> None:
    """Tell people that a run crashed or fell silent.

    Args:
        flow_run_id: The run that crashed.
        name: Its name.
        message: What Prefect says of it.
    """
    tell_of_crash(find_project(Settings().home).home, flow_run_id, name, message)
