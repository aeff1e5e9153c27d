"""Commands that score models on benchmarks: code, and tasks of lm-evaluation-harness."""

from pathlib import Path
from typing import Any

import click

from cli.number_option import Number
from core.console import say, say_json
from pipelines.values.precision import PRECISIONS

_FILE = click.Path(path_type=Path)


@click.command()
@click.option(
    "--base", type=_FILE, required=True, help="Folder of the base model's weights."
)
@click.option("--adapter", type=_FILE, help="Folder of a LoRA adapter on it.")
@click.option(
    "--chat-template", type=_FILE, help="Jinja file, where the base has none."
)
@click.option(
    "--completion-mode",
    is_flag=True,
    help="No chat template: the model goes on with the function.",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Answers to each task; more than one need --temperature.",
)
@click.option(
    "--k",
    type=click.IntRange(1, 1000),
    multiple=True,
    help="The k of pass@k, at most --samples; may be repeated.  [default: 1]",
)
@click.option(
    "--temperature",
    type=Number(0, 10),
    default=0.0,
    show_default=True,
    help="0 answers greedily.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1, 100_000),
    default=512,
    show_default=True,
    help="Longest answer.",
)
@click.option("--batch-size", type=click.IntRange(1, 10_000), help="Tasks at a time.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of the weights.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of samples and intervals.")
@click.option("--limit", type=click.IntRange(min=2), help="So many tasks, for a try.")
@click.option(
    "--margin",
    type=Number(0, 1),
    help="End with 3 where the adapter is worse than its base by more, 4 where it may be.",
)
@click.option("--out", type=_FILE, help="Write report and answers into this folder.")
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line.")
@click.pass_context
def humaneval(ctx: click.Context, /, *, as_json: bool, **options: Any) -> None:
    """Score a base model, and an adapter on it, on the 164 tasks of HumanEval.

    Each answer is run against its tests in two bubblewrap boxes, and nothing is run without them.
    Exit code: 0 passed, 3 worse than the base by more than --margin, 4 undecided.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.humaneval import request_from_options, run_humaneval
    from pipelines.values.verdict import EXIT_CODES

    report = run_humaneval(request_from_options(options))
    if as_json:
        say_json(report.model_dump(mode="json"))
    else:
        for line in report.lines:
            say(line)
    ctx.exit(EXIT_CODES[report.verdict])


@click.command("lm-eval")
@click.argument("version", metavar="models:/NAME/N")
@click.option("--tasks", required=True, help="Names of tasks, separated by commas.")
@click.option(
    "--folder",
    type=_FILE,
    help="Tasks of your own: a folder with their YAML files.",
)
@click.option(
    "--limit", type=click.IntRange(min=2), help="So many documents, for a try."
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="Documents at a time.",
)
@click.option(
    "--chat-template", is_flag=True, help="Ask through the base's chat template."
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
def lm_eval(version: str, *, tasks: str, as_json: bool, **options: Any) -> None:
    """Ask a version and its base tasks of lm-evaluation-harness, and keep the scores in MLflow.

    ASSAY_HARNESS_PYTHON names a Python that has lm_eval. No gate judges these scores.
    """
    from operations.harness.ask import HarnessTasks
    from operations.harness.score_version import score_version

    names = tuple(name.strip() for name in tasks.split(",") if name.strip())
    if not names:
        raise click.BadParameter("It names no task.", param_hint="--tasks")
    report = score_version(version, HarnessTasks(names=names, **options))
    for line in report.lines:
        say(line)
    if as_json:
        say_json(report.model_dump(mode="json"))


COMMANDS: tuple[click.Command, ...] = (humaneval, lm_eval)
