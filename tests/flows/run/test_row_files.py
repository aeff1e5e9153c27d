"""Files of rows on their way into a run's workspace, whatever they are called."""

import gzip
import json
from pathlib import Path

import datasets
import pytest
import yaml

from core.errors import ParameterError, UnreadableData
from core.files import digest_of_json, sha256_of
from core.project import Project
from flows.run.reproduce import version_inputs
from flows.run.request import TrainRequest
from flows.run.workspace import open_workspace
from flows.schedule.arrivals import data_revision, revision_in
from flows.start import request_from
from pipelines import layout
from pipelines.rows.places import find_only
from pipelines.stages.collect import find_local_source
from tests.support.journey import ROOT, git, learnable_rows, write_rows


@pytest.fixture
def project(cloned: Path, tmp_path: Path) -> Project:
    """A clone of the checkout."""
    git(tmp_path, "clone", "--quiet", str(cloned), "assay")
    root = tmp_path / "assay"
    return Project(root=root, home=root / ".assay")


def lines(path: Path) -> Path:
    return write_rows(path, learnable_rows(3))


def saved_dataset(path: Path) -> Path:
    datasets.Dataset.from_list(learnable_rows(3)).save_to_disk(str(path))
    return path


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("my.txt", "rows.txt"),
        ("my.JSONL", "rows.jsonl"),
        ("my", "rows"),
        ("my.dvc", "rows"),
        ("my.bak", "rows"),
        ("my.TMP", "rows"),
        ("my.jsonl~", "rows"),
        ("my.a b;$(x)", "rows"),
        ("my.ünïcode", "rows"),
        ("my.jsonl.gz", "rows.gz"),
        (f"my.{'x' * 200}", "rows"),
    ],
)
def test_a_file_of_any_name_is_kept_under_a_plain_one(
    project: Project, tmp_path: Path, name: str, kept: str
) -> None:
    data = lines(tmp_path / name)
    if name.endswith(".gz"):
        data.write_bytes(gzip.compress(data.read_bytes()))
    request = TrainRequest(data=data)
    with open_workspace(project, request) as workspace:
        raw = workspace.root / layout.RAW
        assert find_only(raw, "rows") == raw / kept
        assert (raw / kept).read_bytes() == data.read_bytes()
        version_inputs(workspace)
        assert (raw / f"{kept}.dvc").is_file()
        assert revision_in(workspace.root) == data_revision(project, request)


def test_a_saved_dataset_is_kept_as_a_folder_and_found_by_what_watches_rows(
    project: Project, tmp_path: Path
) -> None:
    data = saved_dataset(tmp_path / "my data")
    request = TrainRequest(data=data, held_out=lines(tmp_path / "judged"))
    with open_workspace(project, request) as workspace:
        raw = workspace.root / layout.RAW
        assert (raw / "rows/state.json").is_file()
        assert (raw / "held_out").is_file()
        version_inputs(workspace)
        assert (raw / "rows.dvc").is_file()
        before = revision_in(workspace.root)
        assert before == data_revision(project, request)
        source = find_local_source(workspace.params.data, raw)
        assert len(source.sha256()) == 64
    (data / "state.json").write_text((data / "state.json").read_text() + " ")
    assert data_revision(project, request) != before


def test_rows_in_the_checkout_are_found_with_any_suffix_and_kept_out_of_git(
    project: Project,
) -> None:
    raw = project.root / layout.RAW
    lines(raw / "rows.txt")
    saved_dataset(raw / "held_out")
    request = TrainRequest(settings={"data.source": "file"})
    with open_workspace(project, request) as workspace:
        kept = workspace.root / layout.RAW
        assert (kept / "rows.txt").is_file()
        assert (kept / "held_out/state.json").is_file()
        version_inputs(workspace)
        assert revision_in(workspace.root) == data_revision(project, request)
    for ref in ("pinned", "done"):
        commit = f"refs/assay/runs/{workspace.run_id}/{ref}"
        names = git(project.root, "ls-tree", "-r", "--name-only", commit).split()
        assert not {"data/raw/rows.txt", "data/raw/held_out/state.json"} & set(names)
    lines(raw / "rows.csv")
    with (
        pytest.raises(UnreadableData, match=r"holds rows\.csv and rows\.txt"),
        open_workspace(project, request),
    ):
        pass


@pytest.mark.parametrize(
    "name",
    [
        "rows",
        "rows.JSONL",
        "rows.jsonl.gz",
        "rows.a b",
        "rows.ünïcode",
        f"rows.{'x' * 30}",
    ],
)
def test_rows_of_the_checkout_have_one_revision_before_and_in_a_workspace(
    project: Project, name: str
) -> None:
    raw = project.root / layout.RAW
    lines(raw / name)
    lines(raw / name.replace("rows", "held_out"))
    request = TrainRequest(settings={"data.source": "file"})
    with open_workspace(project, request) as workspace:
        assert revision_in(workspace.root) == data_revision(project, request)


def test_a_copy_that_an_editor_left_of_the_rows_stays_out_of_git(
    project: Project,
) -> None:
    raw = project.root / layout.RAW
    lines(raw / "rows.jsonl")
    lines(raw / "rows.jsonl~")
    lines(raw / "held_out.bak")
    request = TrainRequest(settings={"data.source": "file"})
    with open_workspace(project, request) as workspace:
        pass
    commit = f"refs/assay/runs/{workspace.run_id}/pinned"
    names = git(project.root, "ls-tree", "-r", "--name-only", commit).split()
    assert "params.yaml" in names
    kept = [name for name in names if name.startswith("data/raw/")]
    assert kept == ["data/raw/README.md"]


def test_a_folder_of_rows_with_a_suffix_has_one_revision_before_and_in_a_workspace(
    project: Project,
) -> None:
    saved_dataset(project.root / layout.RAW / "rows.dataset")
    request = TrainRequest(settings={"data.source": "file"})
    with open_workspace(project, request) as workspace:
        assert revision_in(workspace.root) == data_revision(project, request)


def test_parameters_that_older_files_lack_make_no_new_rows_until_they_are_set(
    tmp_path: Path,
) -> None:
    (tmp_path / layout.RAW).mkdir(parents=True)
    lines(tmp_path / layout.RAW / "rows.jsonl")
    path = tmp_path / layout.PARAMS
    path.parent.mkdir(parents=True, exist_ok=True)
    new = yaml.safe_load((ROOT / layout.PARAMS).read_text())["data"]
    new["source"] = "file"
    optional = (
        "shape",
        "tests_column",
        "format",
        "encoding",
        "delimiter",
        "sheet",
        "dataset_split",
    )
    old = {name: new[name] for name in new if name not in optional}
    revisions = []
    for section in (old, new, {**new, "encoding": "cp1250"}, {**old, "licence": None}):
        path.write_text(yaml.safe_dump({"data": section}))
        revisions.append(revision_in(tmp_path))
    assert revisions[0] == revisions[1]
    assert len(set(revisions)) == 3
    # The digest that an older Assay recorded of the same rows.
    rows = {"rows.jsonl": sha256_of(tmp_path / layout.RAW / "rows.jsonl")}
    assert revisions[0] == digest_of_json({"rows": rows, "params": old})


@pytest.mark.parametrize(
    "name",
    [
        "rows.jsonl~",
        "rows.jsonl.bak",
        "rows.csv.part",
        "rows.tmp",
        "rows.md",
        "rows.jsonl.SWP",
        "rows.jsonl.dvc",
    ],
)
def test_what_editors_and_downloads_leave_is_no_second_file_of_rows(
    tmp_path: Path, name: str
) -> None:
    rows = lines(tmp_path / "rows.jsonl")
    lines(tmp_path / name)
    assert find_only(tmp_path, "rows") == rows
    lines(tmp_path / "rows.csv")
    with pytest.raises(UnreadableData, match=r"holds rows\.csv and rows\.jsonl\."):
        find_only(tmp_path, "rows")


def test_rows_that_git_tracks_give_way_to_those_of_the_request(
    project: Project, tmp_path: Path
) -> None:
    raw = project.root / layout.RAW
    lines(raw / "rows.txt")
    git(project.root, "add", "--force", "data/raw/rows.txt")
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    git(project.root, *identity, "commit", "--quiet", "-m", "rows")
    request = TrainRequest(data=lines(tmp_path / "my.jsonl"))
    with open_workspace(project, request) as workspace:
        kept = workspace.root / layout.RAW
        assert find_only(kept, "rows") == kept / "rows.jsonl"


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_rows_that_git_tracks_are_kept_by_dvc_in_a_run(
    project: Project, tmp_path: Path, kind: str
) -> None:
    """`assay init` writes a link to the rows, and people commit what it wrote."""
    raw = project.root / layout.RAW
    rows = lines(project.root.parent / "my.jsonl")
    before = rows.read_bytes()
    if kind == "link":
        # From a worktree it leads elsewhere.
        (raw / "rows.jsonl").symlink_to("../../../my.jsonl")
    elif kind == "file":
        lines(raw / "rows.jsonl")
    else:
        rows = saved_dataset(tmp_path / "saved")
        saved_dataset(raw / "rows")
    git(project.root, "add", "--force", "data/raw")
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    git(project.root, *identity, "commit", "--quiet", "-m", "rows")
    with open_workspace(project, TrainRequest(data=rows)) as workspace:
        version_inputs(workspace)
        stored = find_only(workspace.root / layout.RAW, "rows")
        assert stored is not None
        assert not stored.is_symlink()
        written = sorted(path.name for path in workspace.root.parent.iterdir())
        assert written == [workspace.run_id, f"{workspace.run_id}.lock"]
    assert (project.root.parent / "my.jsonl").read_bytes() == before
    commit = f"refs/assay/runs/{workspace.run_id}/done"
    names = git(project.root, "ls-tree", "-r", "--name-only", commit).split()
    kept = [name for name in names if name.startswith("data/raw/rows")]
    assert kept == [f"data/raw/{stored.name}.dvc"]
    assert git(project.root, "status", "--porcelain") == ""


@pytest.mark.parametrize("option", ["data", "held_out"])
def test_a_file_that_is_not_read_is_refused_under_its_own_name(
    project: Project, tmp_path: Path, option: str
) -> None:
    odd = tmp_path / "my rows.jsonl"
    odd.write_bytes(b"SQLite format 3\0")
    files = {"data": lines(tmp_path / "good"), option: odd}
    with (
        pytest.raises(UnreadableData, match=r"my rows\.jsonl is a SQLite database"),
        open_workspace(project, TrainRequest(**files)),
    ):
        pass
    assert not list((project.home / "worktrees").glob("*-*-*/data"))


def test_a_wrong_word_for_a_file_is_a_parameter_error(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    data = lines(tmp_path / "my.jsonl")
    for setting in (
        "data.format=xls",
        "data.encoding=base64",
        "data.encoding=no-such",
        "data.encoding=idna",
        "data.encoding=unicode_escape",
        "data.encoding=''",
        "data.delimiter=x",
        "data.sheet=''",
    ):
        with pytest.raises(ParameterError, match=setting.partition("=")[0]):
            request_from(data=data, settings=(setting,))
    settings = ("data.encoding=utf-16", "data.delimiter=tab", "data.format=csv")
    request = request_from(data=data, settings=settings)
    assert json.dumps(request.settings)
