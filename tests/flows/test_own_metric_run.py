"""A whole run that a metric of the project's own decides, from rows that an own stage makes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.files import sha256_of
from pipelines.__main__ import STAGES
from pipelines.scoring.evidence_file import read_evidence
from registry.release.own_metrics import copy_name
from tests.support import own_metrics
from tests.support.journey import (
    Checkout,
    CommandResult,
    Journey,
    invoke,
    learnable_rows,
    lines_of,
    run_arguments,
    write_rows,
)
from tests.support.own_metrics import NAME

ROOT = Path(__file__).parents[2]


def name_the_metric(checkout: Checkout) -> None:
    """What a person does: the file, the parameters and the policy, none of it committed."""
    own_metrics.write_metric(checkout.root)
    params = checkout.root / "params.yaml"
    text = params.read_text(encoding="utf-8")
    listed = text.partition("  metrics: ")[2].partition("\n")[0]
    params.write_text(text.replace(listed, f"[chrf, {NAME}]"), encoding="utf-8")
    policy = checkout.root / "registry/policies/default.yaml"
    policy.write_text(own_metrics.policy_text(), encoding="utf-8")


def evidence_of(checkout: Checkout, result: CommandResult, into: Path) -> Path:
    return checkout.store.runs.fetch_evidence(result.last["mlflow_run"], into)


def stages_that_ran(result: CommandResult) -> set[str]:
    """The stages that were not taken from DVC's cache."""
    # Without a sealed reserve nothing is confirmed.
    told = {stage: lines_of(result, stage) for stage in STAGES if stage != "confirm"}
    assert all(told.values()), result.out
    return {
        stage
        for stage, lines in told.items()
        if not any(line.split()[1] == "cached" for line in lines)
    }


@pytest.mark.ci
def test_an_own_metric_decides_a_run_and_a_changed_one_repeats_scoring_alone(
    seeded: Checkout, judged: Journey, tmp_path: Path
) -> None:
    name_the_metric(seeded)
    arguments = run_arguments(judged.data, judged.base)
    first = seeded.assay(*arguments)
    assert first.code == 0, first.out + first.err
    reasons = first.last["reasons"]
    assert any(f"{NAME} against base: better by" in reason for reason in reasons)
    assert not any(reason.startswith("bleu") for reason in reasons)

    # Its page shows the metric as it shows chrF.
    pages = [run.data.tags.get("mlflow.note.content", "") for run in seeded.runs()]
    assert any(f"| {NAME} " in page and "| chrf " in page for page in pages), pages

    # The evidence names the file, holds its text, and the project counts it again.
    folder = evidence_of(seeded, first, tmp_path / "first")
    file = seeded.root / f"metrics/{NAME}.py"
    (record,) = read_evidence(folder / "evidence.parquet").own_metrics
    assert record.sha256 == sha256_of(file) == sha256_of(folder / copy_name(NAME))
    assert invoke(seeded, "gate", folder).code == 0

    # Nothing to do, until the file says something else.
    assert seeded.assay(*arguments).last["unchanged"]
    file.write_text(own_metrics.source() + "\n# stricter soon\n", encoding="utf-8")
    second = seeded.assay(*arguments)
    assert second.code == 0, second.out + second.err
    assert not second.last["unchanged"]
    assert stages_that_ran(second) == {"score", "screen"}
    folder = evidence_of(seeded, second, tmp_path / "second")
    (record,) = read_evidence(folder / "evidence.parquet").own_metrics
    assert record.sha256 == sha256_of(file)

    # What the earlier file counted is not taken for what this one would.
    again = invoke(seeded, "gate", tmp_path / "first")
    assert again.code == 1
    assert "not counted again" in again.out


@pytest.mark.ci
def test_a_wrong_metric_is_named_before_anything_runs(
    checkout: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    name_the_metric(checkout)
    own_metrics.write_metric(checkout.root, "def broken(:\n")
    data = write_rows(tmp_path / "letters.jsonl", learnable_rows(60))
    refused = invoke(checkout, *run_arguments(data, tiny_base))
    assert refused.code == 1
    assert f"metrics/{NAME}.py line 1 is no Python" in refused.err
    assert list((checkout.home / "worktrees").glob("*/")) == []


@pytest.mark.ci
def test_the_stage_that_a_page_shows_makes_the_rows_of_a_run(
    seeded: Checkout, judged: Journey
) -> None:
    page = (ROOT / "docs/how-to/run-stages-by-hand.md").read_text("utf-8")
    (stage,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    folder = seeded.root / "prepare"
    folder.mkdir()
    (folder / "dvc.yaml").write_text(stage, encoding="utf-8")
    rows = judged.data.read_text("utf-8")
    code = f"open('rows.jsonl', 'w', encoding='utf-8').write({rows!r})\n"
    (folder / "make_rows.py").write_text(code, encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "prepare/dvc.yaml"],
        cwd=seeded.root,
        check=True,
        capture_output=True,
    )
    made = folder / "rows.jsonl"
    assert sha256_of(made) == sha256_of(judged.data)
    result = seeded.assay(*run_arguments(made, judged.base))
    assert result.code == 0, result.out + result.err
    assert "fine_tune" not in stages_that_ran(result)
