"""Commands that train and judge."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cli.report_options import JUNIT, MARKDOWN

if TYPE_CHECKING:
    from flows.run.outcome import Outcome
    from flows.run.request import TrainRequest

# Checked by the request, whose errors name the option and the next step.
_FILE = click.Path(path_type=Path)


def _training_options(command: Any) -> Any:
    options = (
        click.option(
            "--data",
            type=_FILE,
            help="Own rows: JSON, CSV, Excel, Parquet, Arrow or a `datasets` folder. "
            "Default: the `cheat` pairs.",
        ),
        click.option(
            "--base-model",
            "--base",
            type=_FILE,
            help="Folder of an own base model. Default: SmolLM2-135M-Instruct.",
        ),
        click.option(
            "--held-out",
            type=_FILE,
            help="A fixed set to be judged on; without it, a share of the groups.",
        ),
        click.option(
            "--chat-template",
            type=_FILE,
            help="Jinja file, for a base model without a chat template.",
        ),
        click.option(
            "--completion-mode",
            is_flag=True,
            help="No chat template: the prompt, a line end, the completion.",
        ),
        click.option("--licence", help="SPDX identifier of the own rows' licence."),
        click.option(
            "--policy",
            type=_FILE,
            help="Gate policy. Default: registry/policies/default.yaml.",
        ),
        click.option(
            "--model", help="Name of the registered model. Default: data and base."
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A parameter of params.yaml, as lora.r=32.",
        ),
    )
    # Decorators apply from the inside out, and --help lists the options in this order.
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.argument("name", required=False)
@_training_options
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what admit would, time, memory, the smallest effect to be shown; train nothing.",
)
@JUNIT
@MARKDOWN
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    *,
    dry_run: bool,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train an adapter, judge it, and register it if it passes.

    NAME is a model of the project, which models/NAME.yaml describes; options come before that file.
    Without a name it is the only one, and without any the demo's rows are trained on.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from flows.start import request_from, run_training

    request = request_from(**options)
    if dry_run and (junit or markdown):
        raise click.UsageError(
            "--dry-run trains nothing: there is no verdict to write."
        )
    # It exits, so that nothing is trained.
    if dry_run:
        _estimate(ctx, request, as_json=as_json)
    outcome = run_training(request)
    if junit or markdown:
        _write_reports(outcome, junit, markdown)
    if as_json:
        click.echo(json.dumps(outcome.machine_readable()))
    ctx.exit(outcome.exit_code)


def _write_reports(
    outcome: "Outcome", junit: Path | None, markdown: Path | None
) -> None:
    from operations.gate_report.report import report_of_run
    from operations.judging import write_reports

    write_reports(report_of_run(outcome), junit, markdown)


def _estimate(
    ctx: click.Context, request: "TrainRequest", *, as_json: bool
) -> NoReturn:
    """Print what a run would take, and exit with what `admit` would say."""
    from operations.dry_run import estimate
    from pipelines.values.verdict import EXIT_CODES

    estimated = estimate(request)
    document = json.dumps(estimated.model_dump(mode="json"))
    click.echo(document if as_json else estimated.text)
    ctx.exit(EXIT_CODES[estimated.admission])


@click.command()
@click.option(
    "--adapter",
    type=_FILE,
    help="Folder with adapter_config.json and adapter_model.safetensors.",
)
@click.option(
    "--prompt",
    metavar="FILE|few-shot",
    help="YAML with a system message, examples, or both; or the examples of the few-shot search.",
)
@_training_options
@JUNIT
@MARKDOWN
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def judge(
    ctx: click.Context,
    /,
    *,
    adapter: Path | None,
    prompt: str | None,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Judge an adapter that was trained elsewhere, or a prompt; register it if it passes.

    Nothing is trained. It meets the same rows, gates and comparisons as an adapter of `assay run`;
    verdict and version page say where it comes from.
    """
    from flows.start import request_from, run_training

    if (adapter is None) == (prompt is None):
        raise click.UsageError("Give one of --adapter and --prompt.")
    request = request_from(**options)
    outcome = run_training(request, adapter, prompt)
    if junit or markdown:
        _write_reports(outcome, junit, markdown)
    if as_json:
        click.echo(json.dumps(outcome.machine_readable()))
    ctx.exit(outcome.exit_code)


@click.command()
@click.pass_context
def demo(ctx: click.Context) -> None:
    """The whole path on the `cheat` pairs and SmolLM2-135M, and three answers over HTTP."""
    from operations.demo import run_demo

    ctx.exit(run_demo())


COMMANDS: tuple[click.Command, ...] = (run, judge, demo)
