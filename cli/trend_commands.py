"""`assay trend`: how champion and candidates of a model scored over time."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.model_option import MODEL
from core.console import say, say_json, spell_out

if TYPE_CHECKING:
    from operations.trend.collect import Trend

_SHOWN = 20
"""Runs in the terminal: the newest ones."""


@click.command()
@MODEL
@click.option("--metric", help="Default: the primary metric of the newest run.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with every run, plots over time, and what was released when.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
def trend(model: str, metric: str | None, *, html: Path | None, as_json: bool) -> None:
    """Show how champion and candidates scored, run by run, and what was released when.

    By MLflow's metrics and the ledger alone: no file of a run is opened.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from core.files import write_text
    from operations.trend.collect import collect_trend
    from operations.trend.page import render_trend, summarise

    found = collect_trend(model, metric)
    print_runs(found)
    say(summarise(found))
    if html is not None:
        write_text(html, render_trend(found))
        say(f"The page is {html}.")
    if as_json:
        say_json(found.model_dump(mode="json"))


def print_runs(found: "Trend") -> None:
    """Print a table of the newest runs."""
    from rich.console import Console
    from rich.table import Table

    from operations.trend.page import TITLES, cells

    table = Table()
    for title in TITLES:
        table.add_column(title)
    # The newest come last, where a terminal stops.
    newest = found.runs[-_SHOWN:]
    for run in newest:
        # Whoever may write to MLflow writes verdicts and versions there.
        texts = [spell_out(text) for text in cells(run, found.metric)]
        table.add_row(*texts)
    # A log has no width: the table must not be folded there.
    console = Console(width=160, markup=False)
    console.print(table)


COMMANDS: tuple[click.Command, ...] = (trend,)
