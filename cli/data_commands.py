"""Commands about rows, before anything is trained on them."""

from pathlib import Path
from typing import Any

import click

_FILE = click.Path(path_type=Path)


@click.group()
def data() -> None:
    """Look at rows before a run."""


@data.command()
@click.argument("file", type=_FILE)
@click.option(
    "--base-model",
    type=_FILE,
    help="Show the examples as the chat template of this folder renders them.",
)
@click.option("--chat-template", type=_FILE, help="Jinja file, with --base-model.")
@click.option(
    "--completion-mode", is_flag=True, help="No chat template, with --base-model."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of params.yaml, as data.shape=alpaca.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
def inspect(file: Path, *, as_json: bool, **options: Any) -> None:
    """Say how FILE is read, what becomes of every record, and what will be lost.

    Nothing is written, and nothing needs to run. The exit code is 1 where no row can be used.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.inspect_data import InspectRequest, check_usable, inspect_data

    inspection = inspect_data(InspectRequest(file=file, **options))
    click.echo(inspection.model_dump_json() if as_json else inspection.text)
    check_usable(inspection, file)


COMMANDS: tuple[click.Command, ...] = (data,)
