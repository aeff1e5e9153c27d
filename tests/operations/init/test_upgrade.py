"""`assay upgrade`: what nobody edited is replaced, what somebody edited stays."""

import tomllib
from pathlib import Path

import pytest
import yaml

from core.errors import WorkspaceError
from core.files import digest_of_text
from core.project import Project
from operations.init.create import InitRequest, create_project
from operations.init.project_files import marker_of, with_missing_parameters
from operations.init.upgrade import Upgrade, apply_upgrade, plan_upgrade
from pipelines.values.params import load_params
from tests.support.journey import ROOT

POLICY = "registry/policies/default.yaml"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    root.mkdir()
    create_project(InitRequest(), root)
    return Project(root=root, home=root / ".assay")


def kinds(upgrade: Upgrade) -> dict[str, str]:
    return {change.name: change.kind for change in upgrade.changes}


def from_an_older_assay(project: Project, name: str, text: str) -> None:
    """As if an older Assay had written another text into a file."""
    (project.root / name).write_text(text)
    marker = project.root / "assay.toml"
    digests = tomllib.loads(marker.read_text())["files"]
    digests[name] = digest_of_text(text)
    marker.write_text(marker_of(marker.read_text(), "0.0.9", digests))


def test_a_new_project_needs_no_upgrade(project: Project) -> None:
    upgrade = plan_upgrade(project)
    assert (upgrade.changes, upgrade.is_needed) == ((), False)


def test_a_file_of_an_older_assay_is_replaced_and_the_marker_follows(
    project: Project,
) -> None:
    new = (project.root / "dvc.yaml").read_text()
    from_an_older_assay(project, "dvc.yaml", "stages: {}\n")
    upgrade = plan_upgrade(project)
    assert kinds(upgrade) == {"dvc.yaml": "replaced"}
    assert "-stages: {}" in upgrade.changes[0].diff
    assert (project.root / "dvc.yaml").read_text() == "stages: {}\n", "only planned"
    apply_upgrade(project, upgrade)
    assert (project.root / "dvc.yaml").read_text() == new
    assert plan_upgrade(project).is_needed is False


def test_a_file_that_was_edited_stays_and_its_difference_is_shown(
    project: Project,
) -> None:
    edited = (project.root / POLICY).read_text().replace("alpha: 0.05", "alpha: 0.01")
    (project.root / POLICY).write_text(edited)
    upgrade = plan_upgrade(project)
    assert kinds(upgrade) == {POLICY: "edited"}
    assert "-  alpha: 0.01" in upgrade.changes[0].diff
    assert not upgrade.is_needed
    apply_upgrade(project, upgrade)
    assert (project.root / POLICY).read_text() == edited


def test_parameters_that_are_missing_are_added_and_the_others_kept(
    project: Project,
) -> None:
    path = project.root / "params.yaml"
    text = path.read_text()
    for line in ("  template_date: '2026-01-01'\n", "  r: 16\n"):
        assert line in text
        text = text.replace(line, "")
    path.write_text(text.replace("dropout: 0.0", "dropout: 0.1"))
    upgrade = plan_upgrade(project)
    assert kinds(upgrade) == {"params.yaml": "extended"}
    apply_upgrade(project, upgrade)
    params = load_params(path)
    assert (params.lora.r, params.lora.dropout) == (16, 0.1)
    assert params.base_model.template_date == "2026-01-01"
    assert "# The adapter, in peft's words." in path.read_text()


@pytest.mark.parametrize(
    "text", ["a:\n  x: 1\n", "a:\n  x: 1\n\nb:\n  z: 1\n", "a:\n  x: 1", ""]
)
def test_a_section_gets_what_it_lacks_wherever_it_stands(text: str) -> None:
    whole: dict[str, dict[str, object]] = {
        "a": {"x": 2, "y": None},
        "b": {"z": [1, "two"]},
    }
    added = yaml.safe_load(with_missing_parameters(text, whole))
    assert set(added) == {"a", "b"}
    assert set(added["a"]) == {"x", "y"}
    assert added["a"]["x"] == (1 if text else 2)
    assert set(added["b"]) == {"z"}


def test_a_file_that_is_missing_comes_back(project: Project) -> None:
    (project.root / "infra/retention.yaml").unlink()
    upgrade = plan_upgrade(project)
    assert kinds(upgrade) == {"infra/retention.yaml": "new"}
    apply_upgrade(project, upgrade)
    assert (project.root / "infra/retention.yaml").is_file()


def test_a_clone_of_assay_is_upgraded_by_git() -> None:
    with pytest.raises(WorkspaceError, match="is a clone of Assay itself"):
        plan_upgrade(Project(root=ROOT, home=ROOT / ".assay"))
