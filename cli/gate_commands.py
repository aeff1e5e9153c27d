"""`assay gate`: what a gate answers, computed again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.report_options import JUNIT, MARKDOWN
from core.console import say, say_json
from core.errors import ParameterError

if TYPE_CHECKING:
    from operations.gate import GateRerun
    from operations.model_address import ModelAddress

# Checked by the command, whose errors name the next step.
_FILE = click.Path(path_type=Path)


class _Gates(click.Group):
    """A first word that names no gate is a folder: `assay gate FOLDER` is `assay gate screen`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the gate's name in front of a folder, or of an option of `screen`."""
        known = {"--help", *self.commands}
        words = list(args)
        if words and words[0] not in known:
            words = ["screen", *words]
        return super().parse_args(ctx, words)


class _Address(click.ParamType):  # type: ignore[type-arg] # click 8.1 has no argument
    """A registered version; what is none is wrong usage, and nothing is asked about it."""

    name = "models:/NAME/N"

    def convert(self, value: Any, param: Any, ctx: Any) -> "ModelAddress":
        from operations.model_address import ModelAddress, parse_model_address

        # click converts a default as well.
        if isinstance(value, ModelAddress):
            return value
        try:
            return parse_model_address(str(value))
        except ParameterError as error:
            self.fail(str(error), param, ctx)


@click.group(cls=_Gates)
def gate() -> None:
    """Ask a gate again.

    `assay gate FOLDER` is `assay gate screen FOLDER`.
    """


@gate.command()
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
@JUNIT
@MARKDOWN
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def screen(
    ctx: click.Context,
    folder: Path,
    policy: Path | None,
    prompts: int | None,
    *,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Compute a verdict again from stored evidence and compare it with the stored one.

    FOLDER holds a run's artifacts.
    """
    # Imported here, as in every command, so that `assay --help` answers at once.
    from operations.gate import rerun_gate

    # Everything is computed before the first line is printed.
    rerun = rerun_gate(folder, policy, prompts_to_regenerate=prompts)
    _say_rerun(rerun)
    if junit or markdown:
        from operations.gate_report.report import report_of_rerun
        from operations.judging import write_reports

        write_reports(report_of_rerun(folder, rerun), junit, markdown)
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


@gate.command()
@click.argument("address", type=_Address(), metavar="models:/NAME/N")
@click.option(
    "--record",
    is_flag=True,
    help="Write the verdict to the ledger and to the version's page, as a promotion does.",
)
@JUNIT
@MARKDOWN
@click.option("--json", "as_json", is_flag=True, help="One machine-readable line last.")
@click.pass_context
def judge(
    ctx: click.Context,
    address: "ModelAddress",
    *,
    record: bool,
    junit: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Say what `assay promote` would of a registered version; nothing is released.

    `models:/NAME@ALIAS` names a version, too. The ledger stays as it is without --record. Exit
    code: 0 fit for release, 3 rejected, 4 undecided.
    """
    from flows.run.report import say_findings
    from operations.gate_report.report import report_of_judgement
    from operations.judging import describe_judgement, judge_address, write_reports
    from pipelines.values.verdict import EXIT_CODES

    judgement = judge_address(address, record=record)
    report = report_of_judgement(judgement)
    say_findings(report.findings)
    say(report.sentence)
    write_reports(report, junit, markdown)
    if as_json:
        say_json(describe_judgement(judgement))
    ctx.exit(EXIT_CODES[report.verdict])


COMMANDS: tuple[click.Command, ...] = (gate,)
