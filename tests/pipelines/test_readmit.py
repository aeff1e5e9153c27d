"""Admission judged again from the reports in a run's evidence or a version's package."""

from pathlib import Path

import pytest

from core.errors import DamagedFile
from core.files import write_text
from core.value import Value
from pipelines.gates.policy import load_policy
from pipelines.values.dataset import DatasetVersion, ValidationReport
from pipelines.values.verdict import Admission, Rejection
from registry.release.recompute import readmit, recompute_admission
from tests.support import trials

ENOUGH = {"train": 100, "dev": 30, "held_out": 60}


def reports(**changes: object) -> dict[str, Value]:
    """What lies in a package, by file; data that the default policy admits."""
    dataset = trials.dataset().model_copy(
        update={
            "rows": ENOUGH,
            "source_rows": 190,
            "overlap": {"prompts": 0, "rows": 0},
        }
    )
    return {
        "dataset.json": DatasetVersion.model_validate(dataset.model_dump() | changes),
        "validation_report.json": trials.validation(trials.rows(), "0" * 64),
        "bias_report.json": trials.data_bias(),
    }


def write_reports(folder: Path, **changes: object) -> Path:
    for name, value in reports(**changes).items():
        value.write(folder / name)
    write_text(folder / "policy.yaml", trials.POLICY.read_text())
    return folder


def test_a_package_is_admitted_again_whatever_gate_its_verdict_is_of(
    tmp_path: Path,
) -> None:
    write_reports(tmp_path)
    assert isinstance(readmit(tmp_path), Admission)
    (tmp_path / "scorecard.json").write_text("{}")
    (tmp_path / "verdict.json").write_text('{"verdict": "passed", "gate": "screen"}')
    found = recompute_admission(tmp_path)
    assert (found.verdict.verdict, found.differences) == ("passed", ())


def test_a_run_that_a_lax_policy_admitted_is_refused_by_the_policy_that_holds_now(
    tmp_path: Path,
) -> None:
    write_reports(tmp_path, overlap={"prompts": 60, "rows": 60}, licence=None)
    lax = trials.POLICY.read_text().replace("max_overlap: 0", "max_overlap: 1000")
    write_text(
        tmp_path / "policy.yaml",
        lax.replace("licence_required: true", "licence_required: false"),
    )
    assert isinstance(readmit(tmp_path), Admission)
    again = readmit(tmp_path, trials.POLICY)
    assert isinstance(again, Rejection)
    assert {each.rule for each in again.findings if each.outcome == "rejected"} == {
        "overlap",
        "licence",
    }
    assert again.policy_sha256 == load_policy(trials.POLICY).sha256


def test_an_edited_admission_is_named(tmp_path: Path) -> None:
    write_reports(tmp_path)
    verdict = readmit(tmp_path)
    assert isinstance(verdict, Admission)
    verdict.model_copy(update={"dataset_digest": "f" * 64}).write(
        tmp_path / "verdict.json"
    )
    (difference,) = recompute_admission(tmp_path).differences
    assert difference.startswith("verdict.dataset_digest: ")


@pytest.mark.parametrize(
    "name", ["dataset.json", "validation_report.json", "bias_report.json"]
)
def test_without_one_of_the_reports_there_is_no_admission(
    tmp_path: Path, name: str
) -> None:
    (write_reports(tmp_path) / name).unlink()
    with pytest.raises(DamagedFile, match=name):
        readmit(tmp_path)


def test_a_validation_report_that_names_no_file_for_a_split_did_not_pass(
    tmp_path: Path,
) -> None:
    report = reports()["validation_report.json"]
    assert isinstance(report, ValidationReport)
    write_reports(tmp_path)
    report.model_copy(update={"splits": {}}).write(tmp_path / "validation_report.json")
    verdict = readmit(tmp_path)
    assert isinstance(verdict, Rejection)
    assert verdict.findings[0].text.endswith(
        "the report names no file for train, dev, held_out"
    )


def test_a_report_from_before_contents_were_counted_is_admitted_only_where_that_is_said(
    tmp_path: Path,
) -> None:
    report = reports()["validation_report.json"]
    assert isinstance(report, ValidationReport)
    write_reports(tmp_path)
    report.model_copy(update={"contents": None}).write(
        tmp_path / "validation_report.json"
    )
    assert isinstance(readmit(tmp_path), Rejection)
    assert isinstance(readmit(tmp_path, older=True), Admission)
