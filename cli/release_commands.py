"""Commands of the release manager and of on-call. The brakes need neither MLflow nor Prefect."""

from typing import Any

import click

_MODEL = click.option(
    "--model",
    default="cheat-smollm2",
    show_default=True,
    help="Name of the registered model.",
)
_RELEASED = click.option(
    "--model",
    help="Name of the registered model. Default: the only one that the ledger knows.",
)
_REASON = click.option(
    "--reason", required=True, help="Why, in a sentence: it goes on record."
)


@click.command()
@click.argument("version")
@_MODEL
@_REASON
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def promote(
    ctx: click.Context, version: str, model: str, reason: str, as_json: bool
) -> None:
    """Judge VERSION and, where it passes, put it in front of users. Exit code: 0 released, 3 rejected, 4 undecided."""
    from operations.orders import run_promote

    ctx.exit(run_promote(model, version, reason, as_json=as_json))


@click.command()
@click.argument("version")
@_MODEL
@_REASON
def adopt(**asked: Any) -> None:
    """Answer by name for VERSION, which no run entered into the ledger. It is judged on its evidence as any other."""
    from operations.orders import run_adopt

    run_adopt(**asked)


@click.command()
@_RELEASED
@_REASON
@click.option(
    "--to", "version", help="A version that once served. Default: what served before."
)
def rollback(**asked: Any) -> None:
    """Give full traffic back to what served before."""
    from operations.orders import run_rollback

    run_rollback(**asked)


@click.command()
@click.argument("version")
@_RELEASED
@_REASON
def revoke(**asked: Any) -> None:
    """VERSION never serves again; where it serves now, what served before takes over, or the base."""
    from operations.orders import run_revoke

    run_revoke(**asked)


@click.command("serve-base")
@_RELEASED
@_REASON
def serve_base(**asked: Any) -> None:
    """Have the base model answer under the model's name, until the next release or rollback."""
    from operations.orders import run_serve_base

    run_serve_base(**asked)


@click.command()
@_REASON
def freeze(reason: str) -> None:
    """No release begins, and what is on its way is aborted. Going back stays possible."""
    from operations.orders import run_freeze

    run_freeze(reason)


@click.command()
@_REASON
def unfreeze(reason: str) -> None:
    """Releases may begin again."""
    from operations.orders import run_unfreeze

    run_unfreeze(reason)


@click.command()
@_MODEL
@_REASON
@click.option(
    "--rule",
    required=True,
    help="A rule of the gate judge: human_rating, approvals, package_signature, freshness, comparator.",
)
@click.option(
    "--until",
    required=True,
    help="A time, as 2026-12-01T18:00+01:00, or a span, as 24h or 7d.",
)
def waive(**asked: Any) -> None:
    """A rule of the gate `judge` does not hold for a model until a time; who said so and why is on record."""
    from operations.orders import run_waive

    run_waive(**asked)


COMMANDS: tuple[click.Command, ...] = (
    promote,
    adopt,
    rollback,
    revoke,
    serve_base,
    freeze,
    unfreeze,
    waive,
)
