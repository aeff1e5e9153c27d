"""Commands that train and judge."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from flows.run.request import TrainRequest
    from operations.gate import GateRerun

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
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def run(ctx: click.Context, /, *, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Train an adapter, judge it, and register it if it passes.

    NAME is a model of the project, which models/NAME.yaml describes; options come before that file.
    Without a name it is the only one, and without any the demo's rows are trained on.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from flows.start import request_from, run_training

    request = request_from(**options)
    # It exits, so that nothing is trained.
    if dry_run:
        _estimate(ctx, request, as_json=as_json)
    outcome = run_training(request)
    if as_json:
        click.echo(json.dumps(outcome.machine_readable()))
    ctx.exit(outcome.exit_code)


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
@click.argument("folder", type=_FILE)
@click.option(
    "--policy",
    type=_FILE,
    help="Judge by another policy; default: the one beside the evidence.",
)
@click.option(
    "--regenerate",
    "prompts",
    type=click.IntRange(min=1),
    help="Have the folder's own adapter answer so many drawn prompts again; it needs the weights.",
)
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def gate(
    ctx: click.Context,
    folder: Path,
    policy: Path | None,
    prompts: int | None,
    *,
    as_json: bool,
) -> None:
    """Compute a verdict again from stored evidence and compare it with the stored one.

    FOLDER holds a run's artifacts.
    """
    from operations.gate import rerun_gate

    # Everything is computed before the first line is printed.
    rerun = rerun_gate(folder, policy, prompts_to_regenerate=prompts)
    _say_rerun(rerun)
    if as_json:
        document = {
            "verdict": rerun.verdict.verdict,
            "reasons": [finding.text for finding in rerun.verdict.findings],
            "differences": list(rerun.differences),
        }
        click.echo(json.dumps(document))
    ctx.exit(rerun.exit_code)


def _say_rerun(rerun: "GateRerun") -> None:
    if rerun.regenerated is not None:
        outcome = "passed" if rerun.regenerated.is_enough else "rejected"
        click.echo(f"  {outcome:9} {rerun.regenerated.text}")
    for finding in rerun.verdict.findings:
        click.echo(f"  {finding.outcome:9} {finding.text}")
    for difference in rerun.differences:
        click.echo(f"  DIFFERS   {difference}")
    remark = "; the stored files say something else" if rerun.differences else ""
    click.echo(f"{rerun.verdict.gate}: {rerun.verdict.verdict}{remark}")


@click.command()
@click.pass_context
def demo(ctx: click.Context) -> None:
    """The whole path on the `cheat` pairs and SmolLM2-135M, and three answers over HTTP."""
    from operations.demo import run_demo

    ctx.exit(run_demo())


COMMANDS: tuple[click.Command, ...] = (run, gate, demo)
