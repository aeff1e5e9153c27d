"""Commands that start, stop and look at what runs."""

import sys

import click


@click.command()
@click.option("--mlflow-port", default=5000, show_default=True)
@click.option("--prefect-port", default=4200, show_default=True)
@click.option("--endpoint-port", default=8080, show_default=True)
@click.option(
    "--no-open", is_flag=True, help="Do not open MLflow's pages in a browser."
)
def up(mlflow_port: int, prefect_port: int, endpoint_port: int, no_open: bool) -> None:
    """Start MLflow, Prefect, a worker, the endpoint and the controller; Ctrl-C ends them all."""
    from operations.services import Ports
    from operations.up import run_up

    ports = Ports(mlflow=mlflow_port, prefect=prefect_port, endpoint=endpoint_port)
    is_watched_by_a_person = sys.stdout.isatty()
    run_up(ports, opens_browser=is_watched_by_a_person and not no_open)


@click.command()
def down() -> None:
    """End what `assay up` started, from another terminal."""
    from operations.down import run_down

    ended = run_down()
    if ended.was_running:
        click.echo("Stopped.")
    elif ended.orphans:
        click.echo(
            f"Nothing was running; {ended.orphans} processes that a killed `assay up` had left are ended."
        )
    else:
        click.echo("Nothing is running.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
def status(as_json: bool) -> None:
    """What runs, what serves since when, by whom and why, and what to look at. Works with everything down."""
    from operations.status_text import run_status

    run_status(as_json=as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
def doctor(as_json: bool) -> None:
    """Check this machine and this home; exit code 1 where something is wrong, with what to do."""
    from operations.doctor import run_doctor

    sys.exit(run_doctor(as_json=as_json))


@click.command()
@click.option("--port", default=5000, show_default=True)
def ui(port: int) -> None:
    """MLflow's pages over the runs and versions of this checkout, without users; Ctrl-C ends it."""
    from operations.ui import run_ui

    sys.exit(run_ui(port))


COMMANDS: tuple[click.Command, ...] = (up, down, status, doctor, ui)
