"""`assay review ask-model` and `rate-by-model`: a language model rates what people rate."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from cli.intervals import say_intervals
from cli.model_option import MODEL
from core.console import say, say_json

if TYPE_CHECKING:
    from pipelines.rating.model_count import ModelRating
    from pipelines.rating.model_judge import ModelJudge

MOST_PROMPTS = 500
"""Prompts of one review, at most."""


Command = TypeVar("Command", bound=Callable[..., None])


def _asks_a_judge(command: Command) -> Command:
    """The options that say which model rates; their order on the page is that of the lines."""
    options = (
        click.option(
            "--address", required=True, help="An OpenAI-compatible one, up to /v1."
        ),
        click.option("--judge", required=True, help="The model that is asked there."),
        click.option(
            "--key-variable",
            help="The environment variable that holds the key. Default: no key is sent.",
            metavar="NAME",
        ),
    )
    # The last decorator that is applied comes first.
    for option in reversed(options):
        command = option(command)
    return command


def _judge(address: str, model: str, key_variable: str | None) -> "ModelJudge":
    from pipelines.rating.model_judge import ModelJudge

    return ModelJudge(address, model, _key_in(key_variable))


def _key_in(variable: str | None) -> str:
    """The key that a variable holds, since arguments are in the list of processes."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "")
    if not key:
        raise click.UsageError(
            f"--key-variable names {variable}, which is not set or empty. "
            "Set it to the key, or leave the option out: no key is sent then."
        )
    return key


@click.command("ask-model")
@click.argument("version")
@MODEL
@_asks_a_judge
@click.option(
    "--prompts",
    type=click.IntRange(2, MOST_PROMPTS),
    default=40,
    show_default=True,
    help="Prompts to ask about, those that people rated first.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
def ask_model(
    version: str,
    model: str,
    address: str,
    judge: str,
    key_variable: str | None,
    *,
    prompts: int,
    as_json: bool,
) -> None:
    """Have a language model rate VERSION as people did, and say how far it agrees with them.

    Prompts and answers are sent to that address. What comes back is shown and decides nothing.
    """
    from operations.reviewing import rate_with_model

    found = rate_with_model(
        model,
        version,
        _judge(address, judge, key_variable),
        prompts,
    )
    _say_model_rating(found)
    if as_json:
        say_json(found.model_dump(mode="json"))


def _say_model_rating(found: "ModelRating") -> None:
    say(f"{found.judge} rated {found.rated} of {found.pairs} pairs in both orders.")
    intervals = {
        "difference": found.difference,
        "agreement with people": found.agreement,
        "first place": found.first_place,
    }
    say_intervals(intervals)
    say(f"  {found.turned} pairs turn with the order")
    for fault in found.faults:
        say(f"  not rated: {fault}")
    # Said each time: a number beside people's looks like theirs.
    for objection in found.objections:
        say(f"  not to be relied on: {objection}")
    say("It is shown and decides nothing: `judge` goes by people.")


@click.command("rate-by-model")
@click.argument("version")
@MODEL
@_asks_a_judge
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
def rate_by_model(
    version: str,
    model: str,
    address: str,
    judge: str,
    key_variable: str | None,
    *,
    as_json: bool,
) -> None:
    """Have a language model rate the items of VERSION's last review, and enter what it said.

    It is asked about one answer at a time, by the criteria that people have. Beside people's
    ratings this calibrates it; in a review that was opened with --by-model it rates in their place.
    Questions and answers are sent to that address.
    """
    from operations.model_reviewing import enter_model_rating

    found = enter_model_rating(
        model,
        version,
        _judge(address, judge, key_variable),
    )
    opinions = found.opinions
    say(
        f"Entry {found.generation}: {judge} rated {len(opinions.ratings)} of {found.asked} answers."
    )
    for reason in opinions.missing:
        say(f"  not rated: {reason}")
    if opinions.obeyed:
        say(f"  rated well because they said so: {opinions.obeyed} bad answers")
    say(f"assay gate judge models:/{model}/{version} says what that counts for.")
    if as_json:
        document = {
            "entry": found.generation,
            "asked": found.asked,
            "rated": len(opinions.ratings),
            "missing": list(opinions.missing),
            "obeyed": opinions.obeyed,
        }
        say_json(document)


MODEL_COMMANDS: tuple[click.Command, ...] = (ask_model, rate_by_model)
