"""An option that is a number takes no NaN, which would be within any two ends."""

import click
import pytest
from click.testing import CliRunner

from cli.code_commands import COMMANDS as CODE
from cli.number_option import Number
from cli.review_commands import COMMANDS as REVIEW


@click.command()
@click.option("--days", type=Number(1, 90))
def wait(days: float) -> None:
    click.echo(f"{days}")


@pytest.mark.parametrize("given", ["nan", "-nan", "NaN", "inf", "0.5", "91", "soon"])
def test_what_is_no_number_between_the_ends_is_refused(given: str) -> None:
    result = CliRunner().invoke(wait, ["--days", given])
    assert result.exit_code == 2
    assert "Invalid value for '--days'" in result.output


@pytest.mark.parametrize("given", ["1", "2.5", "90"])
def test_a_number_between_the_ends_is_taken(given: str) -> None:
    result = CliRunner().invoke(wait, ["--days", given])
    assert float(result.output) == float(given)


def test_no_option_of_these_commands_takes_a_nan() -> None:
    groups = [each for each in (*CODE, *REVIEW) if isinstance(each, click.Group)]
    commands = [command for group in groups for command in group.commands.values()]
    numbers = [
        option.type
        for command in commands
        for option in command.params
        if isinstance(option.type, click.FloatRange)
    ]
    assert numbers
    assert all(isinstance(kind, Number) for kind in numbers)
