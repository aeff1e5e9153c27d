"""`assay compare`: two versions or runs on the rows that both answered."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.console import say, say_json, spell_out

if TYPE_CHECKING:
    from operations.compare.differ import Comparing, TwoSides

_SHOWN = 3
"""Changes in the terminal, each way; the page has more, with all texts."""


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with plots, parts and answers side by side.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
def compare(first: str, second: str, *, html: Path | None, as_json: bool) -> None:
    """Say how much better B answers than A, on the prompts that both were asked.

    A and B are models:/NAME/N, models:/NAME@ALIAS, ids of runs, or folders with their artifacts.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from core.files import write_text
    from operations.compare.differ import Comparing, compare_sides
    from operations.compare.page import render_comparison
    from operations.compare.sides import find_side

    # Both sides are read before a line is printed: half a result is none.
    comparing = Comparing(find_side(first), find_side(second))
    found = compare_sides(comparing)
    _say_comparison(comparing, found)
    if html is not None:
        write_text(html, render_comparison(comparing, found))
        say(f"The page is {html}.")
    if as_json:
        say_json(found.model_dump(mode="json"))


def _say_comparison(comparing: "Comparing", found: "TwoSides") -> None:
    from operations.compare.page import describe_rows, summarise

    say(summarise(found))
    _print_table(found)
    say(describe_rows(found))
    for reason in found.not_compared:
        say(f"Not compared: {reason}.")
    _say_changes(comparing, found)


def _print_table(found: "TwoSides") -> None:
    from rich.console import Console
    from rich.table import Table

    from operations.compare.page import format_interval

    table = Table()
    titles = ("metric", found.first, found.second, "difference", "bounds", "B is")
    for title in titles:
        table.add_column(spell_out(title))
    for each in found.metrics:
        arrow = "↑" if each.higher_is_better else "↓"
        table.add_row(
            spell_out(f"{each.metric} {arrow}"),
            format_interval(each.first),
            format_interval(each.second),
            f"{each.difference:+.3g}",
            f"{each.low:+.3g} to {each.high:+.3g}",
            each.says,
        )
    # A log has no width: the table must not be folded there.
    Console(width=160, markup=False).print(table)


def _say_changes(comparing: "Comparing", found: "TwoSides") -> None:
    from pipelines.rows.text import make_short_excerpt

    prompts = comparing.second.scored.prompts
    for title, changes in (("worse", found.worse), ("better", found.better)):
        for change in changes[:_SHOWN]:
            # Whoever wrote the prompt must not write to the terminal.
            text = make_short_excerpt(prompts.get(change.prompt_id, ""))
            say(
                f"  {title}  {change.difference:+.3g} {found.primary}  "
                f"prompt {change.prompt_id}  {text}"
            )


COMMANDS: tuple[click.Command, ...] = (compare,)
