"""Commands of the auditor."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.key_commands import AUDIT_COMMANDS, sign

if TYPE_CHECKING:
    from registry.ledger.audit import AuditReport

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option(
    "--model", help="Only what concerns that registered model, and what concerns all."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def history(model: str | None, *, as_json: bool) -> None:
    """Show what was judged, released and rolled back: when, by whom and why, newest last."""
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.history import read_history

    verified = read_history(model)
    for entry in verified.entries:
        click.echo(entry.model_dump_json() if as_json else entry.line)
    # The entries before a bad one are shown first: they are verified, and tell where it broke.
    if verified.error is not None:
        raise verified.error


@click.group()
def audit() -> None:
    """Check the ledger for changes. Needs neither Prefect nor MLflow."""


@audit.command()
@click.option(
    "--export",
    "exported",
    type=_FILE,
    help="Verify that export; no database is needed.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
@click.pass_context
def verify(ctx: click.Context, exported: Path | None, *, as_json: bool) -> None:
    """Verify every entry, and what endpoint, exports and version pages remember.

    Exit code 1 names the first bad entry.
    """
    from operations.ledger_audit import audit_export, audit_ledger

    report = audit_ledger() if exported is None else audit_export(exported)
    if as_json:
        document = {**report.model_dump(mode="json"), "is_whole": report.is_whole}
        click.echo(json.dumps(document))
    else:
        _say_report(report, "The ledger" if exported is None else str(exported))
    ctx.exit(0 if report.is_whole else 1)


@audit.command()
@click.argument("file", type=_FILE)
@click.option(
    "--with-reasons",
    is_flag=True,
    help="The reasons, too: then the file is for you alone.",
)
def export(file: Path, *, with_reasons: bool) -> None:
    """Write the ledger as JSON lines; keep the file on another machine."""
    from operations.ledger_audit import export_ledger

    head = export_ledger(file, with_reasons=with_reasons)
    click.echo(
        f"{file}: entries 1 to {head.generation}, head {head.hash}. "
        "Keep a copy away from this machine."
    )


@audit.command("import")
@click.argument("file", type=_FILE)
def import_export(file: Path) -> None:
    """Read the ledger of another installation, as an export, for what it revoked since.

    Only one that environments.yaml lists is believed.
    """
    from operations.origins import import_origin

    imported = import_origin(file)
    head = imported.head
    click.echo(f"The ledger of {head.name} is whole up to entry {head.generation}.")
    for alarm in imported.alarms:
        click.echo(alarm)


@audit.command("accept-head")
@click.option("--reason", required=True, help="Why; it is kept beside the ledger.")
def accept_head(reason: str) -> None:
    """Accept the ledger as it is, although others remember more of it.

    After a restore, or on a new machine.
    """
    from operations.ledger_audit import accept_ledger

    acceptance = accept_ledger(reason)
    accepted = acceptance.accepted
    # Who could not be asked comes first: it may remember more than was accepted.
    for note in acceptance.notes:
        click.echo(f"Note: {note}.")
    for head in accepted.lost:
        click.echo(
            f"Accepted as lost: entry {head.generation}, which {head.where} remembers."
        )
    for model, version in accepted.revoked:
        click.echo(f"Revoked again: version {version} of {model}.")
    click.echo(
        f"The ledger counts as it is, up to entry {accepted.generation}. "
        "The endpoint obeys it from its next look on."
    )


@audit.command()
@click.argument("sha256")
def erase(sha256: str) -> None:
    """Erase a reason's text for good, by its SHA-256; `assay history --json` names it."""
    from operations.ledger_audit import erase_reason

    erase_reason(sha256)
    click.echo(
        f"The reason {sha256[:12]} is erased. "
        "Backups and exports with reasons may still hold it."
    )


def _say_report(report: "AuditReport", subject: str) -> None:
    from registry.ledger.audit import LOOK, NOTHING_KNOWN

    if report.is_whole and report.head is not None:
        click.echo(
            f"{subject} is whole: entries 1 to {report.head.generation}, head {report.head.hash}; "
            f"{report.known_heads} heads known from elsewhere agree."
        )
    else:
        click.echo(f"{subject} is not whole. {report.problem}")
    for origin in report.origins:
        click.echo(f"Note: {origin}.")
    for note in report.notes:
        # A ledger of one entry has had no time to be remembered by anybody.
        is_alone = note == NOTHING_KNOWN and report.whole_up_to > 1
        click.echo(f"Warning: {note}. {LOOK}" if is_alone else f"Note: {note}.")


for command in AUDIT_COMMANDS:
    audit.add_command(command)
COMMANDS: tuple[click.Command, ...] = (history, audit, sign)
