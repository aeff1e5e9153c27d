"""The command with which dvc.yaml runs a stage."""

import click


@click.command()
@click.argument("name")
@click.pass_context
def stage(ctx: click.Context, name: str) -> None:
    """Run one stage of dvc.yaml in the current folder, as `dvc repro` does.

    `code` writes down which code each of the others would run.
    """
    from pipelines.__main__ import main

    ctx.exit(main([name]))


COMMANDS: tuple[click.Command, ...] = (stage,)
