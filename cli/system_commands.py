"""Commands that start, stop and look at the running system."""

import sys
from typing import TYPE_CHECKING

import click

from core.console import say, say_json

if TYPE_CHECKING:
    from operations.checks import Check


@click.command()
@click.option("--mlflow-port", default=5000, show_default=True)
@click.option("--prefect-port", default=4200, show_default=True)
@click.option("--endpoint-port", default=8080, show_default=True)
@click.option(
    "--no-open", is_flag=True, help="Do not open MLflow's pages in a browser."
)
@click.option(
    "--playground-port",
    type=int,
    help="Show the playground, too, on that port.",
)
@click.option(
    "--team-mlflow",
    is_flag=True,
    help="Start no MLflow, and use the one at MLFLOW_TRACKING_URI.",
)
def up(
    mlflow_port: int,
    prefect_port: int,
    endpoint_port: int,
    playground_port: int | None,
    *,
    no_open: bool,
    team_mlflow: bool,
) -> None:
    """Start MLflow, Prefect, a worker, the endpoint and the controller; Ctrl-C ends them all."""
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.services import Ports
    from operations.up import run_up

    ports = Ports(
        mlflow=mlflow_port,
        prefect=prefect_port,
        endpoint=endpoint_port,
        playground=playground_port,
        is_mlflow_the_teams=team_mlflow,
    )
    # A script or a service manager wants no browser.
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
            f"Nothing was running; {ended.orphans} processes that a killed `assay up` "
            "had left are ended."
        )
    else:
        click.echo("Nothing is running.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
def status(*, as_json: bool) -> None:
    """What runs, what serves since when, by whom and why, and what to look at.

    Works with everything down.
    """
    from cli.status_text import status_lines
    from operations.status import collect_current_status

    # Exit code 0 whatever it finds: it looks, and `assay doctor` judges.
    current = collect_current_status()
    if as_json:
        document = {**current.model_dump(mode="json"), "warnings": current.warnings}
        say_json(document)
        return
    for line in status_lines(current):
        say(line)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
@click.pass_context
def doctor(ctx: click.Context, *, as_json: bool) -> None:
    """Check this machine and this home; exit code 1 where something is wrong, with what to do."""
    from operations.doctor import examine_current_home

    findings = examine_current_home()
    if as_json:
        document = [finding.model_dump(mode="json") for finding in findings]
        say_json(document)
    else:
        for finding in findings:
            say(_finding_line(finding))
    is_well = all(finding.is_ok for finding in findings)
    ctx.exit(0 if is_well else 1)


@click.command()
@click.option("--port", default=5000, show_default=True)
@click.pass_context
def ui(ctx: click.Context, port: int) -> None:
    """Show MLflow's pages for this project; log in as `admin`. Ctrl-C ends it."""
    from operations.ui import run_ui

    ctx.exit(run_ui(port))


def _finding_line(finding: "Check") -> str:
    outcome = "problem"
    if finding.is_ok:
        outcome = "ok"
    return f"{outcome:<8} {finding.name}: {finding.text}"


COMMANDS: tuple[click.Command, ...] = (up, down, status, doctor, ui)
