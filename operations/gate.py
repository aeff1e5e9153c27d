"""`assay gate`: a verdict once more, from stored evidence."""

import json
from pathlib import Path

from core.console import say
from core.environment import set_library_environment
from core.errors import UnreadableData
from core.project import find_project
from core.settings import Settings
from pipelines.values.verdict import EXIT_CODES
from registry.release.recompute import Recomputed, recompute, recompute_admission


def run_gate(
    folder: Path, policy: Path | None, *, regenerates: int | None = None, as_json: bool
) -> int:
    """Judge the evidence in `folder` again, print the verdict, and give its exit code; 1 where stored and recomputed differ.

    `regenerates`: so many drawn prompts are answered once more by the folder's own adapter, and compared, too.
    """
    if not folder.is_dir():
        raise UnreadableData(
            f"There is no folder {folder}. Give a run's downloaded artifacts: scorecard, evidence, policy and verdict."
        )
    _check_kinds(folder)
    judge_again = (
        recompute if (folder / "scorecard.json").is_file() else recompute_admission
    )
    found = judge_again(folder, policy)
    # Another policy asks what it would have said: only the stored verdict is not expected to agree.
    differences = tuple(
        each
        for each in found.differences
        if policy is None or not each.startswith("verdict")
    )
    if regenerates is not None:
        differences += _regenerated(folder, regenerates)
    _print(found, differences, as_json=as_json)
    return 1 if differences else EXIT_CODES[found.verdict.verdict]


def _check_kinds(folder: Path) -> None:
    """To read a pipe would wait for ever."""
    odd = next(
        (
            path
            for path in folder.rglob("*")
            if path.exists() and not path.is_file() and not path.is_dir()
        ),
        None,
    )
    if odd is not None:
        raise UnreadableData(f"{odd} is no file. Give a run's downloaded artifacts.")


def _regenerated(folder: Path, count: int) -> tuple[str, ...]:
    """Empty where the adapter gives its scored answers again. It loads the weights, so that it takes a while."""
    set_library_environment()
    from serving.regenerate import regenerate

    again = regenerate(folder, count, find_project(Settings().home).home)
    say(f"  {'passed' if again.is_enough else 'rejected':9} {again.text}")
    return () if again.is_enough else (f"regenerated: {again.text}",)


def _print(found: Recomputed, differences: tuple[str, ...], *, as_json: bool) -> None:
    for finding in found.verdict.findings:
        say(f"  {finding.outcome:9} {finding.text}")
    for difference in differences:
        say(f"  DIFFERS   {difference}")
    say(
        f"{found.verdict.gate}: {found.verdict.verdict}"
        + ("" if not differences else "; the stored files say something else")
    )
    if as_json:
        reasons = [finding.text for finding in found.verdict.findings]
        say(
            json.dumps(
                {
                    "verdict": found.verdict.verdict,
                    "reasons": reasons,
                    "differences": list(differences),
                }
            )
        )
