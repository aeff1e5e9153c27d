"""Commands that answer over HTTP."""

import click

from cli.model_option import MODEL


@click.command()
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
def serve(port: int) -> None:
    """Serve what is released, over OpenAI-compatible HTTP.

    Releases and rollbacks are followed while it runs.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.serve import run_serve

    run_serve(port)


@click.command()
@MODEL
@click.option(
    "--version",
    default="@challenger",
    show_default=True,
    help="Version number, or @alias.",
)
@click.option("--base", "base_only", is_flag=True, help="The base model alone.")
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
def preview(model: str, version: str, *, base_only: bool, port: int) -> None:
    """Look at the answers of a registered version, or of the base, on this machine.

    A preview is no release: nothing is recorded.
    """
    from operations.serve import run_preview

    run_preview(model, None if base_only else version, port)


COMMANDS: tuple[click.Command, ...] = (serve, preview)
