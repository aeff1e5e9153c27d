"""Own metrics in stored evidence are counted again by the project's file, and by no other."""

import shutil
from pathlib import Path

import pytest

from core.errors import ParameterError
from core.files import sha256_of
from pipelines.gates.policy import Policy
from pipelines.scoring.evidence_file import Evidence, read_evidence
from pipelines.values.evidence import Scorecard
from registry.release.own_metrics import copy_name
from registry.release.recompute import recompute
from registry.release.succession import against_challenger, beats
from tests.support import own_metrics, trials
from tests.support.own_metrics import COUNTS, NAME


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    own_metrics.write_metric(root)
    return root


@pytest.fixture(scope="module")
def stored(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "run"
    own_metrics.write_folder(folder, project)
    return folder


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "run"))


def test_with_the_projects_file_the_verdict_is_found_again(
    folder: Path, project: Path
) -> None:
    found = recompute(folder, project=project)
    assert found.differences == ()
    assert found.verdict.verdict == "passed"


def test_without_the_file_the_verdict_is_computed_and_is_not_believed(
    folder: Path, tmp_path: Path
) -> None:
    for elsewhere in (None, tmp_path):
        found = recompute(folder, project=elsewhere)
        assert found.verdict.verdict == "passed"
        (told,) = found.differences
        assert told.startswith(f"evidence.{NAME}: not counted again: metrics/{NAME}.py")


def test_a_file_with_other_bytes_does_not_count(folder: Path, tmp_path: Path) -> None:
    own_metrics.write_metric(tmp_path, own_metrics.source() + "# one more line\n")
    (told,) = recompute(folder, project=tmp_path).differences
    digest = sha256_of(tmp_path / "metrics" / f"{NAME}.py")
    assert f"metrics/{NAME}.py is {digest[:12]} here, and " in told


def test_a_forged_number_is_found(folder: Path, project: Path) -> None:
    with own_metrics.edited_evidence(folder) as update:
        rows = read_evidence(folder / "evidence.parquet").rows
        first, *others = rows["base"]
        worse = {**first.statistics, NAME: (0.123, 1.0)}
        forged = first.model_copy(update={"statistics": worse})
        update["rows"] = {**rows, "base": (forged, *others)}
    (told,) = recompute(folder, project=project).differences
    place = f"evidence.base.{first.row.prompt_id}.statistics.{NAME}[0]"
    true = first.statistics[NAME][0]
    assert told == f"{place}: 0.123 stored, {true} recomputed"


@pytest.mark.parametrize(
    ("member", "forged"),
    [
        ("higher_is_better", True),
        ("scale", 2.0),
        ("unit", "points"),
        ("worst", None),
        ("inapplicable", "It says nothing"),
        ("method", "another"),
    ],
)
def test_what_evidence_says_of_a_metric_is_compared_with_what_the_file_says(
    folder: Path, project: Path, member: str, forged: object
) -> None:
    with own_metrics.edited_evidence(folder) as update:
        (record,) = read_evidence(folder / "evidence.parquet").own_metrics
        update["own_metrics"] = (record.model_copy(update={member: forged}),)
    told = recompute(folder, project=project).differences
    assert any(each.startswith(f"evidence.{NAME}.{member}: ") for each in told)


def test_evidence_that_names_another_digest_is_not_believed(
    folder: Path, project: Path
) -> None:
    with own_metrics.edited_evidence(folder) as update:
        (record,) = read_evidence(folder / "evidence.parquet").own_metrics
        update["own_metrics"] = (record.model_copy(update={"sha256": "0" * 64}),)
    told = recompute(folder, project=project).differences
    assert any("000000000000 counted" in each for each in told)


def test_code_that_comes_with_evidence_is_never_run(
    folder: Path, project: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "sprung"
    code = f"open({str(trap)!r}, 'w')\n"
    places = (
        copy_name(NAME),
        f"metrics/{NAME}.py",
        f"own_metrics/{NAME}.py",
        f"{NAME}.py",
    )
    for name in places:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code, encoding="utf-8")
    for where in (None, tmp_path, project):
        told = recompute(folder, project=where).differences
        # The text that a person would read is not the one that counted.
        assert any(f"{copy_name(NAME)} is another text" in each for each in told)
    assert not trap.exists()


def test_evidence_without_the_text_of_its_metric_is_named(
    folder: Path, project: Path
) -> None:
    (folder / copy_name(NAME)).unlink()
    (told,) = recompute(folder, project=project).differences
    assert told == f"evidence.{NAME}: there is no {copy_name(NAME)}"


# A finalist and the challenger.


@pytest.fixture
def challenger(tmp_path: Path) -> Evidence:
    """Counted by another file, in which every answer is perfect; the answers are wrong ones."""
    root = tmp_path / "earlier"
    generous = COUNTS.replace("return best, 1.0", "return 0.0, 1.0")
    own_metrics.write_metric(root, own_metrics.source(counts=generous))
    worse = trials.trial(
        systems={
            "base": (trials.wrong, 4.0),
            "few_shot": (trials.wrong, 3.0),
            "adapter": (trials.wrong, 2.5),
        }
    )
    own_metrics.scored(root, root, worse)
    return read_evidence(root / "evidence.parquet")


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    return own_metrics.policy(tmp_path)


def test_a_challenger_is_counted_by_the_finalists_file(
    folder: Path, project: Path, challenger: Evidence, policy: Policy
) -> None:
    own = read_evidence(folder / "evidence.parquet")
    card = Scorecard.read(folder / "scorecard.json")
    findings = against_challenger(card, own, challenger, policy, project)
    # By the numbers that are stored, the challenger would be perfect.
    assert beats(findings), [each.text for each in findings]


def test_without_the_finalists_file_numbers_of_two_files_are_not_mixed(
    folder: Path, challenger: Evidence, policy: Policy, tmp_path: Path
) -> None:
    own = read_evidence(folder / "evidence.parquet")
    card = Scorecard.read(folder / "scorecard.json")
    with pytest.raises(ParameterError, match=f"metrics/{NAME}.py"):
        against_challenger(card, own, challenger, policy, tmp_path)
