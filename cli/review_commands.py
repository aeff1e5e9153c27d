"""`assay review`: people rate answers blind."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.intervals import say_intervals
from cli.model_option import MODEL
from cli.number_option import Number
from cli.review_model_commands import MODEL_COMMANDS, MOST_PROMPTS
from core.console import say, say_json

if TYPE_CHECKING:
    from registry.release.judging.circumstances import HumanRating

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
    type=click.IntRange(2, MOST_PROMPTS),
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
@click.option(
    "--by-model",
    is_flag=True,
    help="Ask nobody: a calibrated language model rates in people's place, where the policy "
    "lets one.",
)
def open_command(
    version: str,
    model: str,
    reviewers: tuple[str, ...],
    prompts: int,
    days: float,
    *,
    by_model: bool,
) -> None:
    """Draw answers of VERSION and of what it is compared with, and ask people to rate them.

    A review that is open already comes to nothing, and counts as one of those that the policy
    allows.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.model_reviewing import open_model_review
    from operations.reviewing import open_review
    from registry.release.reviewing import Extent

    extent = Extent(prompts, days)
    if by_model:
        _refuse_reviewers(reviewers)
        opened = open_model_review(model, version, extent)
        say(
            f"Review {opened.generation} of version {version} of {model} against the "
            f"{opened.against} is open for a language model: {opened.items} answers. "
            f"Then: assay review rate-by-model {version} --model {model}"
        )
        return
    opened = open_review(
        model,
        version,
        reviewers,
        extent,
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


def _refuse_reviewers(reviewers: tuple[str, ...]) -> None:
    if reviewers:
        raise click.UsageError(
            "--by-model asks nobody: leave out --reviewer, or --by-model."
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
    say_intervals(intervals)
    if rating.win_rate is not None:
        say(f"  better on {rating.win_rate:.0%} of the prompts, ties as half")
    for reason in rating.set_aside:
        say(f"  not counted: {reason}")


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


for _command in MODEL_COMMANDS:
    review.add_command(_command)

COMMANDS: tuple[click.Command, ...] = (review,)
