"""`assay gate`: a verdict once more, from stored evidence."""

import json
from pathlib import Path

import click

from flows.run.outcome import EXIT_CODES
from pipelines.errors import UnreadableData
from pipelines.recompute import Recomputed, recompute, recompute_admission


def run_gate(folder: Path, policy: Path | None, *, as_json: bool) -> int:
    """Judge the evidence in `folder` again, print the verdict, and give its exit code; 1 where stored and recomputed differ."""
    if not folder.is_dir():
        raise UnreadableData(f"There is no folder {folder}. Give a run's downloaded artifacts: scorecard, evidence, policy and verdict.")
    judge_again = recompute if (folder / "scorecard.json").is_file() else recompute_admission
    found = judge_again(folder, policy)
    # Another policy asks what it would have said: only the stored verdict is not expected to agree.
    differences = tuple(each for each in found.differences if policy is None or not each.startswith("verdict"))
    _print(found, differences, as_json=as_json)
    return 1 if differences else EXIT_CODES[found.verdict.verdict]


def _print(found: Recomputed, differences: tuple[str, ...], *, as_json: bool) -> None:
    for finding in found.verdict.findings:
        click.echo(f"  {finding.outcome:9} {finding.text}")
    for difference in differences:
        click.echo(f"  DIFFERS   {difference}")
    click.echo(f"{found.verdict.gate}: {found.verdict.verdict}" + ("" if not differences else "; the stored files say something else"))
    if as_json:
        reasons = [finding.text for finding in found.verdict.findings]
        click.echo(json.dumps({"verdict": found.verdict.verdict, "reasons": reasons, "differences": list(differences)}))
