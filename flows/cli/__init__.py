"""The command `assay`. Exit codes: 0 passed, 1 error, 2 usage, 3 rejected, 4 undecided, 75 told to stop (go on with the same command)."""

from typing import Any

import click

from flows.cli import audit, keeping, operations, releases, serving, training
from pipelines.errors import AssayError


class _Commands(click.Group):
    """The one place where an error becomes an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AssayError as error:
            click.echo(f"assay: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands)
@click.version_option(package_name="assay")
def main() -> None:
    """Data and a base language model to a LoRA adapter that is proven better, registered and served."""


for _command in (*training.COMMANDS, *releases.COMMANDS, *serving.COMMANDS, *operations.COMMANDS, *keeping.COMMANDS, *audit.COMMANDS):
    main.add_command(_command)
