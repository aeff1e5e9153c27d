"""Commands of the auditor."""

from pathlib import Path

import click

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option(
    "--model", help="Only what concerns that registered model, and what concerns all."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_context
def history(ctx: click.Context, model: str | None, as_json: bool) -> None:
    """What was judged, released, rolled back and braked: when, by whom and why, the newest last."""
    from operations.history import run_history

    ctx.exit(run_history(model, as_json=as_json))


@click.group()
def audit() -> None:
    """Is the ledger what was written? Needs neither Prefect nor MLflow."""


@audit.command()
@click.option(
    "--export",
    "exported",
    type=_FILE,
    help="Verify that export; no database is needed.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
@click.pass_context
def verify(ctx: click.Context, exported: Path | None, as_json: bool) -> None:
    """Verify every entry, and what endpoint, exports and version pages remember; exit code 1 names the first bad entry."""
    from operations.history import run_verify

    ctx.exit(run_verify(exported, as_json=as_json))


@audit.command()
@click.argument("file", type=_FILE)
@click.option(
    "--with-reasons",
    is_flag=True,
    help="The reasons, too: then the file is for you alone.",
)
@click.pass_context
def export(ctx: click.Context, file: Path, with_reasons: bool) -> None:
    """Write the ledger as JSON lines; keep the file on another machine."""
    from operations.history import run_export

    ctx.exit(run_export(file, with_reasons=with_reasons))


@audit.command("accept-head")
@click.option("--reason", required=True, help="Why; it is kept beside the ledger.")
@click.pass_context
def accept_head(ctx: click.Context, reason: str) -> None:
    """Have the ledger count as it is, although others remember more of it: after a restore, or on a new machine."""
    from operations.history import run_acceptance

    ctx.exit(run_acceptance(reason))


@audit.command("rotate-key")
@click.option("--reason", required=True, help="Why; it is kept beside the ledger.")
@click.pass_context
def rotate_key(ctx: click.Context, reason: str) -> None:
    """Replace the key that signs the ledger; cut short, call it again."""
    from operations.history import run_rotation

    ctx.exit(run_rotation(reason))


@audit.command()
@click.argument("sha256")
@click.pass_context
def erase(ctx: click.Context, sha256: str) -> None:
    """Erase a reason's text for good, by its SHA-256; `assay history --json` names it."""
    from operations.history import run_erasure

    ctx.exit(run_erasure(sha256))


COMMANDS: tuple[click.Command, ...] = (history, audit)
