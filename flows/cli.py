"""The command `assay`. Exit codes: 0 passed, 1 error, 2 usage, 3 rejected, 4 undecided."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from pipelines.errors import AssayError

_FILE = click.Path(path_type=Path)


class _Commands(click.Group):
    """The one place where an error becomes an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except AssayError as error:
            click.echo(f"assay: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands)
@click.version_option(package_name="assay")
def main() -> None:
    """Data and a base language model to a LoRA adapter that is proven better, registered and served."""


def _training_options(command: Any) -> Any:
    options = (
        click.option("--data", type=_FILE, help="Own rows: JSONL, CSV or Parquet. Default: the `cheat` pairs."),
        click.option("--base-model", type=_FILE, help="Folder of an own base model. Default: SmolLM2-135M-Instruct."),
        click.option("--held-out", type=_FILE, help="A fixed set to be judged on; without it, a share of the groups."),
        click.option("--chat-template", type=_FILE, help="Jinja file, for a base model without a chat template."),
        click.option("--completion-mode", is_flag=True, help="No chat template: the prompt, a line end, the completion."),
        click.option("--licence", help="SPDX identifier of the own rows' licence."),
        click.option("--policy", type=_FILE, help="Gate policy. Default: registry/policies/default.yaml."),
        click.option("--model", help="Name of the registered model. Default: data and base."),
        click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="A parameter of params.yaml, as lora.r=32."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@_training_options
@click.option("--dry-run", is_flag=True, help="Say time, memory and the smallest effect that can be shown; train nothing.")
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def run(ctx: click.Context, /, dry_run: bool, as_json: bool, **asked: Any) -> None:
    """Train an adapter, judge it, and register it if it passes."""
    from flows.start import request_from, run_training

    request = request_from(**asked)
    if dry_run:
        from flows.dry_run import estimate

        estimated = estimate(request)
        click.echo(json.dumps(estimated.model_dump(mode="json")) if as_json else estimated.text)
        return
    outcome = run_training(request)
    if as_json:
        click.echo(json.dumps(outcome.machine_readable()))
    ctx.exit(outcome.exit_code)


@main.command()
@click.argument("folder", type=_FILE)
@click.option("--policy", type=_FILE, help="Judge by another policy; default: the one beside the evidence.")
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def gate(ctx: click.Context, folder: Path, policy: Path | None, as_json: bool) -> None:
    """Compute a verdict again from stored evidence (a folder of a run's artifacts) and compare it with the stored one."""
    from flows.gate import run_gate

    ctx.exit(run_gate(folder, policy, as_json=as_json))


@main.command()
@click.option("--model", default="cheat-smollm2", show_default=True, help="Name of the registered model.")
@click.option("--version", default="@challenger", show_default=True, help="Version number, or @alias.")
@click.option("--base", "base_only", is_flag=True, help="Serve the base model alone.")
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
def serve(model: str, version: str, base_only: bool, port: int) -> None:
    """Serve a registered version, or the base, over OpenAI-compatible HTTP."""
    from flows.serve import run_endpoint

    sys.exit(run_endpoint(model, None if base_only else version, port))


@main.command()
@click.pass_context
def demo(ctx: click.Context) -> None:
    """The whole path on the `cheat` pairs and SmolLM2-135M, and three answers over HTTP."""
    from flows.demo import run_demo

    ctx.exit(run_demo())


@main.command()
@click.option("--port", default=5000, show_default=True)
def ui(port: int) -> None:
    """MLflow's pages over the runs and versions of this checkout; Ctrl-C ends it."""
    from flows.start import run_ui

    sys.exit(run_ui(port))


if __name__ == "__main__":
    main()
