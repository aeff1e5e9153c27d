"""Tell people of a run that crashed. An automation starts this flow, since the run cannot."""

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
    project = find_project(Settings().home)
    tell_of_crash(
        project.home,
        flow_run_id,
        name,
        message,
    )
