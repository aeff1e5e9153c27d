"""Commands about policies."""

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.group()
def policy() -> None:
    """Write the limits of the gates."""


@policy.command("init")
@click.argument("file", type=_FILE)
@click.option("--out", type=_FILE, help="File to write. Default: policy.yaml.")
@click.option(
    "--model",
    help="Write registry/policies/MODEL.yaml, which its runs find themselves.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of params.yaml, as data.prompt_column=question.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
def init(
    file: Path,
    *,
    out: Path | None,
    model: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Look at the rows of FILE, and write a policy for them that says why it is so.

    Task, primary metric, smallest effect and margins are proposed; read them before you use them.
    """
    from operations.policy_init import PolicyRequest, init_policy

    request = PolicyRequest(
        file=file,
        out=out,
        model=model,
        settings=settings,
    )
    written = init_policy(request)
    click.echo(written.model_dump_json() if as_json else written.text)


COMMANDS: tuple[click.Command, ...] = (policy,)
"""The group that holds the commands of this file."""
