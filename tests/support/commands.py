"""`assay` inside this process, as click runs it."""

from pathlib import Path

from click.testing import CliRunner, Result

from cli import main


def assay(*arguments: str) -> Result:
    """In the home of this process's environment."""
    return CliRunner().invoke(main, arguments)


def assay_in(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"ASSAY_HOME": str(home)})
