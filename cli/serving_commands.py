"""Commands that answer over HTTP."""

import click

from cli.model_option import MODEL


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. On another one it always asks for API keys.",
)
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
def serve(host: str, port: int) -> None:
    """Serve what is released, over OpenAI-compatible HTTP.

    Releases and rollbacks are followed while it runs.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.serve import run_serve

    run_serve(host, port)


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


@click.command()
@click.option(
    "--endpoint",
    default="http://127.0.0.1:8080/v1",
    show_default=True,
    help="OpenAI-compatible address that is asked.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Another one only where the endpoint asks for API keys.",
)
@click.option("--port", default=8081, show_default=True, help="0 takes a free one.")
def playground(endpoint: str, host: str, port: int) -> None:
    """Show a page in which people try what is released, beside the base.

    It is a client of the endpoint like any other. Ctrl-C ends it.
    """
    from operations.serve import run_playground

    run_playground(endpoint, host, port)


COMMANDS: tuple[click.Command, ...] = (serve, preview, playground)
