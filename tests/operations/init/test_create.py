"""`assay init`: a project in whatever folder a person stands in, and nothing of theirs touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from core.errors import AssayError, ParameterError, UnreadableData, WorkspaceError
from core.project import find_project, find_root
from flows.run.model_files import read_model_file
from operations.init.create import InitRequest, create_project
from operations.init.project_files import WORKFLOWS, with_settings, workflow_file
from pipelines.gates.policy import load_policy
from pipelines.values.params import load_params
from tests.support.journey import ROOT, git, learnable_rows, write_rows

WORKFLOW = workflow_file(".", "train")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def everything_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.parts
    }


def test_the_repository_of_assay_is_such_a_project(empty: Path) -> None:
    create_project(InitRequest(), empty)
    own = {"assay.toml", ".assay/.gitignore"}
    own |= {workflow_file(".", kind) for kind in WORKFLOWS}
    made = everything_in(empty)
    for name in set(made) - own:
        assert made[name] == (ROOT / name).read_bytes(), name


def test_a_project_is_found_from_below_and_its_files_are_whole(empty: Path) -> None:
    made = create_project(InitRequest(), empty)
    assert made.has_new_repository
    assert find_project(Path(".assay"), empty / "data").root == empty
    load_params(empty / "params.yaml")
    load_policy(empty / "registry/policies/default.yaml")


def test_own_rows_and_a_base_are_in_the_models_file_and_in_the_parameters(
    empty: Path, tiny_base: Path
) -> None:
    rows = write_rows(empty / "my rows.jsonl", learnable_rows(3))
    made = create_project(
        InitRequest(data=rows, base_model=tiny_base, licence="CC0-1.0"), empty
    )
    assert made.model == "my-rows-tiny"
    configured = read_model_file(empty, made.model)
    assert configured is not None
    assert (configured.data, configured.licence) == (Path("my rows.jsonl"), "CC0-1.0")
    assert configured.base_model == tiny_base
    params = load_params(empty / "params.yaml")
    assert (params.data.source, params.data.licence) == ("file", "CC0-1.0")
    assert "command_validity" not in params.score.metrics
    assert (empty / "data/raw/rows.jsonl").read_bytes() == rows.read_bytes()


def test_a_link_in_the_repository_and_dots_in_a_path_are_understood(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "below").mkdir()
    write_rows(empty.parent / "rows.jsonl", learnable_rows(3))
    (empty / "linked.jsonl").symlink_to("../rows.jsonl")
    monkeypatch.chdir(empty / "below")
    made = create_project(InitRequest(data=Path("../linked.jsonl"), model="a"), empty)
    configured = read_model_file(made.root, "a")
    assert configured is not None
    assert configured.data == Path("linked.jsonl")


def test_where_names_are_taken_the_project_has_a_folder_of_its_own(
    empty: Path,
) -> None:
    git(empty, "init", "--quiet")
    (empty / "dvc.yaml").write_text("stages: {theirs: {cmd: echo}}\n")
    (empty / "params.yaml").write_text("theirs: 1\n")
    (empty / ".gitignore").write_text("data/\n")
    before = everything_in(empty)
    made = create_project(InitRequest(), empty)
    after = everything_in(empty)
    assert (made.root, made.has_new_repository) == (empty / "assay", False)
    assert {name: after[name] for name in before} == before
    assert all(
        name.startswith(("assay/", ".github/")) for name in set(after) - set(before)
    )
    # The repository's own folder stands for it, and so does any folder of the project.
    assert find_root(empty) == find_root(empty / "assay/data") == empty / "assay"
    workflow = yaml.safe_load((empty / WORKFLOW).read_text())
    assert workflow["defaults"]["run"]["working-directory"] == "assay"


@pytest.mark.parametrize(
    "taken", ["assay/params.yaml", WORKFLOW, "assay/data/expectations/rows.json"]
)
def test_nothing_is_written_where_a_file_is_in_the_way(empty: Path, taken: str) -> None:
    git(empty, "init", "--quiet")
    (empty / "dvc.yaml").write_text("{}\n")
    (empty / taken).parent.mkdir(parents=True, exist_ok=True)
    (empty / taken).write_text("theirs\n")
    before = everything_in(empty)
    with pytest.raises(WorkspaceError, match="overwrites nothing"):
        create_project(InitRequest(), empty)
    assert everything_in(empty) == before


def test_a_link_that_leads_nowhere_is_in_the_way(empty: Path) -> None:
    (empty / "assay.toml").symlink_to("/nowhere/else.toml")
    with pytest.raises(WorkspaceError, match="overwrites nothing"):
        create_project(InitRequest(), empty)


def test_a_project_is_made_once(empty: Path) -> None:
    create_project(InitRequest(), empty)
    before = everything_in(empty)
    for folder in (empty, empty / "data"):
        with pytest.raises(WorkspaceError, match="is a project of Assay already"):
            create_project(InitRequest(), folder)
    assert everything_in(empty) == before


@pytest.mark.parametrize(
    ("name", "text", "error", "fact"),
    [
        ("none.jsonl", None, UnreadableData, "There is no file"),
        ("rows.jsonl", "", UnreadableData, "holds no"),
        ("rows.jsonl", "[1, 2", AssayError, "rows.jsonl"),
    ],
)
def test_rows_that_cannot_be_read_are_said_before_anything_is_written(
    empty: Path, name: str, text: str | None, error: type[AssayError], fact: str
) -> None:
    if text is not None:
        (empty / name).write_text(text)
    with pytest.raises(error, match=fact):
        create_project(InitRequest(data=empty / name), empty)
    assert set(everything_in(empty)) <= {name}
    assert not (empty / ".git").exists()


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a é %20b", "@NAME@", "a'b"])
def test_a_folder_of_any_name_becomes_a_project(tmp_path: Path, name: str) -> None:
    top = tmp_path / name
    top.mkdir()
    made = create_project(InitRequest(folder=Path(name)), top)
    assert find_root(top / name / "data") == made.root == top / name
    files = list((top / WORKFLOW).parent.iterdir())
    assert len(files) == len(WORKFLOWS)
    for file in files:
        workflow = yaml.safe_load(file.read_text())
        assert workflow["defaults"]["run"]["working-directory"] == name


def test_a_folder_whose_home_no_database_can_name_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "a?b").mkdir()
    with pytest.raises(WorkspaceError, match=r"has a \? or # in its path"):
        create_project(InitRequest(), tmp_path / "a?b")
    assert not any((tmp_path / "a?b").iterdir())


def test_a_folder_outside_is_refused_unless_it_is_in_a_repository(empty: Path) -> None:
    git(empty, "init", "--quiet")
    other = empty.parent / "other"
    with pytest.raises(WorkspaceError, match="is in no git repository"):
        create_project(InitRequest(folder=Path("../other")), empty)
    assert not other.exists()
    other.mkdir()
    git(other, "init", "--quiet")
    made = create_project(InitRequest(folder=Path("../other/new")), empty)
    assert (made.repository, find_root(other / "new")) == (other, other / "new")
    assert set(everything_in(empty)) == set()


def test_a_repository_holds_a_project_in_each_of_two_folders(empty: Path) -> None:
    for folder in ("sales", "support/mail"):
        made = create_project(InitRequest(folder=Path(folder)), empty)
        assert find_root(empty / folder) == made.root
    names = {path.name for path in (empty / WORKFLOW).parent.iterdir()}
    assert names == {
        f"assay-{folder}-{kind}.yml"
        for folder in ("sales", "support-mail")
        for kind in WORKFLOWS
    }
    titles = {
        yaml.safe_load(path.read_text())["name"]
        for path in (empty / WORKFLOW).parent.iterdir()
    }
    assert titles == {name.removesuffix(".yml") for name in names}


@pytest.mark.parametrize("inside", [".git", ".git/objects"])
def test_the_inside_of_a_repository_becomes_no_project(
    empty: Path, inside: str
) -> None:
    git(empty, "init", "--quiet")
    with pytest.raises(WorkspaceError, match="is the inside of a git repository"):
        create_project(InitRequest(), empty / inside)


def test_a_bare_repository_becomes_no_project(empty: Path) -> None:
    git(empty, "init", "--quiet", "--bare")
    before = everything_in(empty)
    with pytest.raises(WorkspaceError, match="is the inside of a git repository"):
        create_project(InitRequest(), empty)
    assert everything_in(empty) == before


def test_a_submodule_where_no_run_works_becomes_no_project(empty: Path) -> None:
    library = empty.parent / "library"
    library.mkdir()
    git(library, "init", "--quiet")
    commit = ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet")
    git(library, *commit, "--allow-empty", "-m", "x")
    git(empty, "init", "--quiet")
    add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
    git(empty, *add, str(library), "library")
    with pytest.raises(WorkspaceError, match="is a git submodule"):
        create_project(InitRequest(), empty / "library")


@pytest.mark.parametrize("kept", [1, 4, 9, 13])
def test_a_command_that_was_killed_goes_on_where_it_was(empty: Path, kept: int) -> None:
    rows = write_rows(empty / "rows.jsonl", learnable_rows(3))
    request = InitRequest(data=rows, model="a")
    whole = create_project(request, empty)
    for name in whole.written[kept:]:
        (empty / name).unlink()
    assert find_root(empty) is None, "the marker comes last"
    again = create_project(request, empty)
    assert (again.root, again.written) == (empty, whole.written)
    assert all(os.path.lexists(empty / name) for name in whole.written)


@pytest.mark.parametrize("name", ["../up", "a b", "", ".hidden", "x" * 300, "ä"])
def test_a_model_is_named_as_mlflow_can(empty: Path, name: str) -> None:
    rows = write_rows(empty / "rows.jsonl", learnable_rows(3))
    with pytest.raises(ParameterError, match="is no name of a model"):
        create_project(InitRequest(data=rows, model=name), empty)


def test_a_parameter_without_a_line_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        with_settings("data:\n  source: cheat\n", {"data.sourc": "file"})


@pytest.mark.ci
def test_dvc_works_in_the_project_and_in_the_repository_around_it(
    empty: Path, tiny_base: Path
) -> None:
    """Their pipeline and ours, each by `dvc repro` in its own folder."""
    git(empty, "init", "--quiet")
    dvc(empty, "init", "--quiet")
    (empty / "dvc.yaml").write_text(
        "stages: {theirs: {cmd: cp params.yaml out, deps: [params.yaml], outs: [out]}}\n"
    )
    (empty / "params.yaml").write_text("theirs: 1\n")
    rows = write_rows(empty / "rows.jsonl", learnable_rows(400))
    made = create_project(InitRequest(data=rows, base_model=tiny_base), empty)
    dvc(empty, "repro")
    assert (empty / "out").read_text() == "theirs: 1\n"
    dvc(made.root, "repro", "admit")
    verdict = yaml.safe_load((made.root / "data/admit/verdict.json").read_text())
    assert verdict["verdict"] == "passed"
    again = dvc(made.root, "repro", "admit")
    assert "Stage 'collect' didn't change, skipping" in again
    assert "theirs" not in again


def dvc(folder: Path, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("dvc")), *arguments]
    environment = {
        **os.environ,
        "PATH": f"{Path(command[0]).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_base_is_in_the_parameters_too_and_what_lies_outside_is_told(
    empty: Path, tiny_base: Path
) -> None:
    rows = write_rows(empty / "rows.jsonl", learnable_rows(3))
    made = create_project(InitRequest(data=rows, base_model=tiny_base), empty)
    base = load_params(empty / "params.yaml").base_model
    assert (base.source, base.id, base.path) == ("folder", "tiny", str(tiny_base))
    assert made.outside == (str(tiny_base),)


def test_rows_without_the_columns_of_a_run_are_refused_at_once(empty: Path) -> None:
    rows = write_rows(empty / "rows.jsonl", [{"ask": "a", "say": "b"}])
    with pytest.raises(AssayError, match="has no column prompt"):
        create_project(InitRequest(data=rows), empty)
    assert not (empty / "assay.toml").exists()
