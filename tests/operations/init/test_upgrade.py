"""`assay upgrade`: what nobody edited is replaced, what somebody edited stays."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from core.errors import ParameterError, WorkspaceError
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


@pytest.mark.parametrize("layout", ["lora: {r: 4}\n", '"lora":\n  r: 4\n'])
def test_parameters_of_another_layout_are_left_alone_and_what_they_lack_is_named(
    project: Project, layout: str
) -> None:
    path = project.root / "params.yaml"
    text = re.sub(r"(?ms)^lora:\n.*?(?=^\S)", layout, path.read_text())
    path.write_text(text)
    upgrade = plan_upgrade(project)
    assert kinds(upgrade) == {"params.yaml": "edited"}
    assert "+# lacks lora.alpha: 32" in upgrade.changes[0].diff
    apply_upgrade(project, upgrade)
    assert path.read_text() == text


def test_a_section_that_was_emptied_gets_its_parameters(project: Project) -> None:
    path = project.root / "params.yaml"
    path.write_text(re.sub(r"(?ms)^lora:\n.*?(?=^\S)", "lora:\n", path.read_text()))
    apply_upgrade(project, plan_upgrade(project))
    assert load_params(path).lora.alpha == 32


@pytest.mark.parametrize(
    "text", ["- a\n", "a:\n\tb: 1\n", "lora: 3\n", "a: 2024-13-45\n"]
)
def test_parameters_that_are_none_are_said_in_a_sentence(
    project: Project, text: str
) -> None:
    (project.root / "params.yaml").write_text(text)
    with pytest.raises(ParameterError, match=r"^params\.yaml "):
        plan_upgrade(project)


def test_a_file_that_is_no_text_was_edited(project: Project) -> None:
    (project.root / POLICY).write_bytes(b"\xff\xfe")
    upgrade = plan_upgrade(project)
    assert kinds(upgrade) == {POLICY: "edited"}
    apply_upgrade(project, upgrade)
    assert (project.root / POLICY).read_bytes() == b"\xff\xfe"


def test_a_link_that_leads_nowhere_is_no_missing_file(project: Project) -> None:
    (project.root / POLICY).unlink()
    (project.root / POLICY).symlink_to("/nowhere/strict.yaml")
    with pytest.raises(OSError, match="default"):
        plan_upgrade(project)


def test_the_line_ends_of_parameters_stay(project: Project) -> None:
    path = project.root / "params.yaml"
    text = path.read_text().replace("  r: 16\n", "").replace("\n", "\r\n")
    path.write_bytes(text.encode())
    apply_upgrade(project, plan_upgrade(project))
    changed = path.read_bytes()
    assert changed.count(b"\n") == changed.count(b"\r\n")
    assert load_params(path).lora.r == 16


def test_files_of_a_newer_assay_are_not_taken_back(project: Project) -> None:
    marker = project.root / "assay.toml"
    marker.write_text(marker_of(marker.read_text(), "99.0", {}))
    with pytest.raises(WorkspaceError, match=r"of Assay 99\.0, and .* is installed"):
        plan_upgrade(project)


def test_what_was_written_before_a_kill_counts_as_written_by_assay(
    project: Project,
) -> None:
    new = (project.root / "dvc.yaml").read_text()
    from_an_older_assay(project, "dvc.yaml", "stages: {}\n")
    # The file was replaced, and the marker was not.
    (project.root / "dvc.yaml").write_text(new)
    apply_upgrade(project, plan_upgrade(project))
    digests = tomllib.loads((project.root / "assay.toml").read_text())["files"]
    assert digests["dvc.yaml"] == digest_of_text(new)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[files]\n", "[files]  # mine\n"),
        ("# Digest of", "# My own words of"),
        ('version = "', "version='"),
        ("\n# Digest", "\n[mine]\nx = [\n  1,\n]\n# Digest"),
    ],
)
def test_what_a_person_wrote_into_the_marker_stays(before: str, after: str) -> None:
    text = 'version = "1"\n[assay]\nversion = "1"\n\n# Digest of\n[files]\n"a" = "b"\n'
    text = text.removeprefix('version = "1"\n')
    text = text.replace(before, after).replace("='1\"", "='1'")
    text += "# the end\n[servers]\nmlflow = ''\n"
    document = tomllib.loads(text)
    made = marker_of(text, "2", {"c": "d"})
    document |= {"files": {"c": "d"}}
    document["assay"]["version"] = "2"
    assert tomllib.loads(made) == document
    assert "# the end\n" in made
    assert marker_of(made, "2", {"c": "d"}) == made


@pytest.mark.parametrize(
    "text",
    [
        "[assay]\n",
        'files = {a = "b"}\n[assay]\nversion = "1"\n',
        'assay = {version = "1"}\n',
    ],
)
def test_a_marker_of_another_layout_is_left_alone(text: str) -> None:
    with pytest.raises(WorkspaceError, match="is laid out otherwise"):
        marker_of(text, "2", {"c": "d"})


def test_a_clone_of_assay_is_upgraded_by_git() -> None:
    with pytest.raises(WorkspaceError, match="is a clone of Assay itself"):
        plan_upgrade(Project(root=ROOT, home=ROOT / ".assay"))
