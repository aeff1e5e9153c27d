"""Commands that remove what is not needed, and keep what is."""

from pathlib import Path

import click

# Each command checks for itself what it needs of the path.
_FILE = click.Path(path_type=Path)


@click.command()
@click.option(
    "--apply",
    "applies",
    is_flag=True,
    help="Remove it. Without this, only say what would go.",
)
@click.option(
    "--policy", type=_FILE, help="Days by kind. Default: infra/retention.yaml."
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
def gc(policy: Path | None, *, applies: bool, as_json: bool) -> None:
    """Remove what is old and what neither the ledger nor a registered version names."""
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.gc.clear import run_gc

    click.echo(run_gc(policy, applies=applies, as_json=as_json))


@click.command()
@click.argument("folder", type=_FILE)
@click.option(
    "--with-base-models",
    is_flag=True,
    help="Copy own base models too; without this, their place and digest are recorded.",
)
def backup(folder: Path, *, with_base_models: bool) -> None:
    """Copy everything that cannot be made again into a new FOLDER.

    The copy is consistent and verified, and the system keeps running.
    """
    from operations.backup.create import run_backup

    click.echo(run_backup(folder, with_base_models=with_base_models))


@click.command()
@click.argument("folder", type=_FILE)
@click.option(
    "--home",
    type=_FILE,
    help="An empty folder to restore into. Default: the home of this project.",
)
def restore(folder: Path, home: Path | None) -> None:
    """Put a backup into an empty home, after verifying every byte of it."""
    from operations.backup.restore import run_restore

    click.echo(run_restore(folder, home))


@click.command()
def move_to_postgresql() -> None:
    """Copy ledger and MLflow's records into the PostgreSQL that the settings name.

    ASSAY_LEDGER_URL and ASSAY_MLFLOW_DATABASE_URL name empty databases. The files in the home stay
    as they are.
    """
    from operations.move_to_postgresql import run_move

    click.echo(run_move())


COMMANDS: tuple[click.Command, ...] = (gc, backup, restore, move_to_postgresql)
