"""Commands about base models."""

import json
from pathlib import Path
from typing import Any

import click

_FILE = click.Path(path_type=Path)


@click.group()
def base() -> None:
    """Look at a base model before training."""


@base.command()
@click.argument("folder", type=_FILE)
@click.option(
    "--data",
    type=_FILE,
    help="Ask rows of this file; without it, questions of our own.",
)
@click.option(
    "--chat-template",
    type=_FILE,
    help="Jinja file, for a base model without a chat template.",
)
@click.option(
    "--completion-mode",
    is_flag=True,
    help="No chat template: the prompt, a line end, the completion.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of params.yaml, as generation.precision=bfloat16.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
def check(folder: Path, *, as_json: bool, **options: Any) -> None:
    """Show how FOLDER's model is asked, where its answers end, and that batches change nothing.

    A model that cannot be trained or scored rightly is refused by name.
    """
    from flows.start import request_from
    from operations.base_check import check_base_folder

    request = request_from(base_model=folder, **options)
    conformance = check_base_folder(request)
    if as_json:
        click.echo(json.dumps(conformance.model_dump(mode="json")))
        return
    click.echo(f"{conformance.base_id}\n{conformance.text}")


@click.command()
@click.option(
    "--base",
    "asked",
    required=True,
    metavar="BASE",
    help="Identifier, revision, six or more digits of the digest, or folder of a base model.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
def lineage(asked: str, *, as_json: bool) -> None:
    """List what hangs on a base model: versions, what serves, evidence, and what to do."""
    from cli.lineage_text import lineage_lines
    from operations.lineage import find_lineage

    found = find_lineage(asked)
    if as_json:
        click.echo(found.model_dump_json())
        return
    for line in lineage_lines(found):
        click.echo(line)


COMMANDS: tuple[click.Command, ...] = (base, lineage)
