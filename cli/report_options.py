"""Options of every command that writes a gate's answer for CI."""

from pathlib import Path

import click

_FILE = click.Path(path_type=Path, dir_okay=False)

JUNIT = click.option(
    "--junit",
    type=_FILE,
    help="Write JUnit XML: one test case a rule; undecided is a failure, too.",
)
MARKDOWN = click.option(
    "--markdown", type=_FILE, help="Write a summary for a pull request."
)
