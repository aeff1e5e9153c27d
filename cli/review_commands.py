"""`assay review`: people rate answers blind."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.model_option import MODEL
from cli.number_option import Number
from core.console import say, say_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.rating.model_count import ModelRating
    from pipelines.values.dataset import Interval
    from registry.release.judge import HumanRating

_MOST_PROMPTS = 500
_MOST_DAYS = 90


@click.group()
def review() -> None:
    """Have people rate a version's answers blind, in MLflow's pages."""


@review.command("open")
@click.argument("version")
@MODEL
@click.option(
    "--reviewer",
    "reviewers",
    multiple=True,
    help="A user of MLflow's, several times. Default: everybody with the role reviewer.",
)
@click.option(
    "--prompts",
    type=click.IntRange(2, _MOST_PROMPTS),
    default=40,
    show_default=True,
    help="Held-out prompts, each with two answers; fewer where there are fewer.",
)
@click.option(
    "--days",
    type=Number(1, _MOST_DAYS),
    default=14.0,
    show_default=True,
    help="What is rated later does not count, and nobody has to be waited for then.",
)
def open_command(
    version: str, model: str, reviewers: tuple[str, ...], prompts: int, days: float
) -> None:
    """Draw answers of VERSION and of what it is compared with, and ask people to rate them.

    A review that is open already comes to nothing, and counts as one of those that the policy
    allows.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.reviewing import open_review
    from registry.release.reviewing import Extent

    opened = open_review(
        model,
        version,
        reviewers,
        Extent(prompts, days),
    )
    everybody = ", ".join(opened.reviewers)
    say(
        f"Review {opened.generation} of version {version} of {model} against the "
        f"{opened.against} is open: {opened.items} answers each for {everybody}."
    )
    place = opened.address or "Experiments > assay-reviews > Review, under `assay ui`"
    say(f"They rate at {place}. Then: assay review close {version} --model {model}")
    if opened.until is not None:
        say(
            f"It ends on {opened.until:%Y-%m-%d %H:%M} UTC: later ratings do not count."
        )


@review.command()
@click.argument("version")
@MODEL
def status(version: str, model: str) -> None:
    """Say who has how many answers of VERSION left to rate."""
    from operations.reviewing import unfinished_of

    unfinished = unfinished_of(model, version)
    # Counts alone: how they rated is nobody's business before the end.
    for name, count in unfinished.items():
        say(f"{name} has {count} left.")
    if not unfinished:
        say("Everybody has finished.")


@review.command()
@click.argument("version")
@MODEL
@click.option(
    "--unfinished",
    is_flag=True,
    help="Close it though somebody has not finished and its end is not reached: "
    "nobody can rate any more then, and nothing passes by it.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
def close(version: str, model: str, *, unfinished: bool, as_json: bool) -> None:
    """Enter what people rated of VERSION, for good; `assay gate judge` judges by it."""
    from operations.reviewing import close_review

    # Everything is entered before the first line is printed.
    closed = close_review(model, version, unfinished=unfinished)
    rating = closed.rating
    say(
        f"Entry {closed.generation}: {rating.raters} people rated {rating.prompts} groups of "
        f"prompts of version {version} of {model}."
    )
    _say_rating(rating)
    if as_json:
        document = {"entry": closed.generation, **rating.model_dump(mode="json")}
        say_json(document)


def _say_rating(rating: "HumanRating") -> None:
    intervals = {
        "difference": rating.difference,
        "safe share": rating.safe_share,
        "agreement": rating.agreement,
    }
    _say_intervals(intervals)
    if rating.win_rate is not None:
        say(f"  better on {rating.win_rate:.0%} of the prompts, ties as half")
    for reason in rating.set_aside:
        say(f"  not counted: {reason}")


def _say_intervals(intervals: "Mapping[str, Interval | None]") -> None:
    for name, interval in intervals.items():
        # A number that is missing is said, too: `judge` is undecided for it.
        if interval is None:
            say(f"  {name}: not known")
            continue
        bounds = f"[{interval.low:.2f}, {interval.high:.2f}]"
        say(f"  {name}: {interval.estimate:.2f} {bounds}")


@review.command()
@click.argument("version")
@MODEL
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A file of JSON lines: prompt, chosen, rejected, margin.",
)
def export(version: str, model: str, out: Path) -> None:
    """Write the rated pairs of VERSION as trl's DPO trainer reads them."""
    from operations.reviewing import export_pairs

    # Only pairs that people told apart: a tie teaches no preference.
    count = export_pairs(
        model,
        version,
        out,
    )
    say(f"{count} pairs are in {out}.")


@review.command("ask-model")
@click.argument("version")
@MODEL
@click.option("--address", required=True, help="An OpenAI-compatible one, up to /v1.")
@click.option("--judge", required=True, help="The model that is asked there.")
@click.option(
    "--key-variable",
    help="The environment variable that holds the key. Default: no key is sent.",
)
@click.option(
    "--prompts",
    type=click.IntRange(2, _MOST_PROMPTS),
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
    from pipelines.rating.model_judge import ModelJudge

    # Never as an argument: those are in the list of processes.
    key = os.environ.get(key_variable, "") if key_variable else ""
    found = rate_with_model(
        model,
        version,
        ModelJudge(address, judge, key),
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
    _say_intervals(intervals)
    say(f"  {found.turned} pairs turn with the order")
    for fault in found.faults:
        say(f"  not rated: {fault}")
    # Said each time: a number beside people's looks like theirs.
    for objection in found.objections:
        say(f"  not to be relied on: {objection}")
    say("It is shown and decides nothing: `judge` goes by people.")


COMMANDS: tuple[click.Command, ...] = (review,)
