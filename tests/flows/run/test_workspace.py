"""A workspace of a run's own: the checkout is pinned as it is and nothing in it changes."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from core.errors import ParameterError, RegistryError, WorkspaceError
from core.project import Project, find_project, find_root
from flows.run.mlflow_run import flat_params
from flows.run.pin import pin_working_tree
from flows.run.reproduce import version_inputs
from flows.run.request import TrainRequest
from flows.run.work_key import identify
from flows.run.workspace import ended_workspaces, open_workspace, remove_dead_worktrees
from flows.start import request_from
from operations.init.create import InitRequest, create_project
from pipelines.values.params import load_params
from tests.support import own_metrics
from tests.support.journey import IDENTITY, git, learnable_rows, write_rows


@pytest.fixture
def project(cloned: Path, tmp_path: Path) -> Project:
    """A clone with an edit in its working tree, one in its index, and an untracked file."""
    git(tmp_path, "clone", "--quiet", str(cloned), "assay")
    root = tmp_path / "assay"
    (root / "README.md").write_text("edited\n")
    (root / "Makefile").write_text("staged\n")
    git(root, "add", "Makefile")
    (root / "pipelines/untracked.py").write_text("")
    return Project(root=root, home=root / ".assay")


def worktrees(project: Project) -> list[Path]:
    return [path for path in (project.home / "worktrees").glob("*") if path.is_dir()]


def state(project: Project) -> tuple[str, ...]:
    return tuple(
        git(project.root, *words)
        for words in (
            ("status", "--porcelain"),
            ("diff", "--cached"),
            ("rev-parse", "HEAD"),
            ("branch",),
        )
    )


def test_pinning_leaves_branch_index_and_working_tree_alone(project: Project) -> None:
    before = state(project)
    with open_workspace(project, TrainRequest()):
        assert state(project) == before
    assert state(project) == before
    assert worktrees(project) == []


def test_an_own_metric_is_pinned_whatever_git_knows_of_it_and_nothing_beside_it(
    project: Project,
) -> None:
    untracked = own_metrics.write_metric(project.root, name="untracked")
    own_metrics.write_metric(project.root, name="staged")
    git(project.root, "add", "metrics/staged.py")
    # Staged and gone, and what a folder of that name may hold besides.
    own_metrics.write_metric(project.root, name="gone")
    git(project.root, "add", "metrics/gone.py")
    (project.root / "metrics/gone.py").unlink()
    (project.root / "metrics/heavy.json").write_text("{}")
    with open_workspace(project, TrainRequest()) as workspace:
        untracked.write_text("edited during the run\n")
        pinned = sorted(path.name for path in (workspace.root / "metrics").iterdir())
        assert pinned == ["staged.py", "untracked.py"]
        text = (workspace.root / "metrics/untracked.py").read_text()
        assert text == own_metrics.source()


def test_the_files_of_safety_probes_are_pinned_and_nothing_beside_them(
    project: Project,
) -> None:
    folder = project.root / "safety"
    folder.mkdir()
    for name in ("pairs.csv", "canaries.jsonl", "notes.txt"):
        (folder / name).write_text("{}")
    (folder / "folder.csv").mkdir()
    with open_workspace(project, TrainRequest()) as workspace:
        pinned = sorted(path.name for path in (workspace.root / "safety").iterdir())
    assert pinned == ["canaries.jsonl", "pairs.csv"]


def test_own_rows_leave_the_metrics_that_name_an_own_one(
    project: Project, tmp_path: Path
) -> None:
    own_metrics.write_metric(project.root)
    policy = project.root / "registry/policies/default.yaml"
    policy.write_text(own_metrics.policy_text())
    data = write_rows(tmp_path / "rows.jsonl", learnable_rows(20))
    params = project.root / "params.yaml"
    listed = f"  metrics: [chrf, {own_metrics.NAME}]\n"
    text = re.sub(r"  metrics: .*\n", listed, params.read_text())
    params.write_text(text)
    with open_workspace(project, TrainRequest(data=data)) as workspace:
        assert workspace.params.score.metrics == ("chrf", own_metrics.NAME)
    # Before training: the gate would reject every adapter.
    policy.write_text(own_metrics.policy_text(own_metrics={own_metrics.NAME: 2.0}))
    with (
        pytest.raises(ParameterError, match="scale of 1, and the policy"),
        open_workspace(project, TrainRequest(data=data)),
    ):
        pass
    wanted = {"score.metrics": ["chrf"]}
    with open_workspace(project, TrainRequest(data=data, settings=wanted)) as workspace:
        assert workspace.params.score.metrics == ("chrf",)
    params.write_text(text.replace(f", {own_metrics.NAME}", ""))
    with open_workspace(project, TrainRequest(data=data)) as workspace:
        assert "bleu" in workspace.params.score.metrics


def test_the_working_tree_is_pinned_as_it_is(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a clone of Assay itself the code that runs is a part of the project.
    monkeypatch.setattr("flows.run.pin.INSTALLED", project.root)
    with open_workspace(project, TrainRequest()) as workspace:
        assert (workspace.root / "README.md").read_text() == "edited\n"
        assert (workspace.root / "Makefile").read_text() == "staged\n"
        assert (workspace.root / "pipelines/untracked.py").is_file()
        assert find_root(workspace.root) == workspace.root, "it carries the marker"
        assert (
            git(
                project.root, "rev-parse", f"refs/assay/runs/{workspace.run_id}/pinned"
            ).strip()
            == workspace.commit
        )


def test_code_that_is_not_the_project_s_own_is_not_pinned(project: Project) -> None:
    with open_workspace(project, TrainRequest()) as workspace:
        assert not (workspace.root / "pipelines/untracked.py").exists()


@pytest.fixture
def inner(tmp_path: Path, cloned: Path) -> Project:
    """A project in the subfolder of a repository that ignores what Assay names its files."""
    top = tmp_path / "theirs"
    root = top / "assay"
    shutil.copytree(cloned, root, ignore=shutil.ignore_patterns(".git"))
    (top / ".gitignore").write_text("data/\n*.yaml\n*.toml\n.dvc\n")
    (top / "dvc.yaml").write_text("stages: {}\n")
    (top / "large.bin").write_text("not needed by any run\n")
    git(top, "init", "--quiet")
    git(top, "add", "--force", "dvc.yaml", "large.bin", ".gitignore")
    git(top, *IDENTITY, "commit", "--quiet", "-m", "theirs")
    return Project(root=root, home=root / ".assay")


def test_a_project_in_a_repository_of_somebody_else_is_pinned_and_the_rest_is_kept(
    inner: Project,
) -> None:
    top = inner.root.parent
    (top / "large.bin").write_text("edited, and no business of a run\n")
    before = git(top, "status", "--porcelain")
    with open_workspace(inner, TrainRequest(settings={"lora.r": 32})) as workspace:
        tree = workspace.root.parent
        assert workspace.root.name == "assay"
        assert not (tree / "large.bin").exists(), "it may be large"
        assert (workspace.root / "data/expectations/rows.json").is_file()
        assert (workspace.root / ".dvc/config").is_file()
    assert worktrees(inner) == []
    assert git(top, "status", "--porcelain") == before
    done = f"refs/assay/runs/{workspace.run_id}/done"
    assert git(top, "show", f"{done}:large.bin") == "not needed by any run\n"
    assert "r: 32" in git(top, "show", f"{done}:assay/params.yaml")


def test_overrides_are_in_the_workspace_and_in_the_runs_record_only(
    project: Project,
) -> None:
    with open_workspace(project, TrainRequest(settings={"lora.r": 32})) as workspace:
        assert (
            load_params(workspace.root / "params.yaml").lora.r
            == workspace.params.lora.r
            == 32
        )
    assert load_params(project.root / "params.yaml").lora.r == 16
    assert "r: 32" in git(
        project.root, "show", f"refs/assay/runs/{workspace.run_id}/done:params.yaml"
    )


def test_what_a_person_has_set_up_for_commits_of_their_own_ends_no_run(
    project: Project,
) -> None:
    git(project.root, "config", "commit.gpgsign", "true")
    git(project.root, "config", "gpg.program", "false")
    for name in (
        "post-checkout",
        "pre-commit",
        "commit-msg",
        "prepare-commit-msg",
        "post-commit",
        "reference-transaction",
    ):
        hook = project.root / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho refused by a hook >&2\nexit 1\n")
        hook.chmod(0o755)
    with open_workspace(project, TrainRequest()) as workspace:
        pass
    assert "params.yaml" in git(
        project.root,
        "ls-tree",
        "--name-only",
        f"refs/assay/runs/{workspace.run_id}/done",
    )


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_project_is_pinned_whole_in_a_checkout_that_leaves_out_other_folders(
    tmp_path: Path, *, is_committed: bool
) -> None:
    git(tmp_path, "init", "--quiet")
    identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
    (tmp_path / "big").mkdir()
    (tmp_path / "big/file").write_text("x\n")
    git(tmp_path, "add", ".")
    git(tmp_path, *identity, "commit", "--quiet", "-m", "big")
    git(tmp_path, "sparse-checkout", "set", "--cone", "other")
    create_project(InitRequest(folder=Path("mine")), tmp_path)
    if is_committed:
        git(tmp_path, "add", "--sparse", ".")
        git(tmp_path, *identity, "commit", "--quiet", "-m", "mine")
    params = tmp_path / "mine/params.yaml"
    params.write_text(params.read_text().replace("r: 16", "r: 8"))
    commit = pin_working_tree(tmp_path / "mine", "a")
    names = git(tmp_path, "ls-tree", "-r", "--name-only", commit).split()
    assert {"big/file", "mine/dvc.yaml", "mine/assay.toml"} <= set(names)
    assert "r: 8" in git(tmp_path, "show", f"{commit}:mine/params.yaml")


def test_a_run_that_a_git_hook_started_leaves_branch_and_index_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(project)
    with monkeypatch.context() as hook:
        hook.setenv("GIT_DIR", str(project.root / ".git"))
        hook.setenv("GIT_INDEX_FILE", str(project.root / ".git/index"))
        with open_workspace(
            project, TrainRequest(settings={"lora.r": 32})
        ) as workspace:
            pass
    assert state(project) == before
    assert "r: 32" in git(
        project.root, "show", f"refs/assay/runs/{workspace.run_id}/done:params.yaml"
    )


def test_groups_may_have_any_name_in_a_runs_parameters(project: Project) -> None:
    names = {"Dr. X & co": ["Ann"], "männlich": ["Bob"]}
    with open_workspace(
        project, TrainRequest(settings={"bias.names": names})
    ) as workspace:
        assert json.loads(flat_params(workspace)["bias.names"]) == names


def test_a_metric_that_does_not_exist_is_said_before_anything_is_trained(
    project: Project,
) -> None:
    settings = {"score.metrics": ["chrf", "blue"]}
    with (
        pytest.raises(ParameterError, match=r"no metric blue\. Did you mean bleu\?"),
        open_workspace(project, TrainRequest(settings=settings)),
    ):
        pass


def test_an_engine_that_is_not_installed_is_said_before_anything_is_collected(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TrainRequest(settings={"generation.engine": "vllm"})
    monkeypatch.delenv("ASSAY_VLLM_PYTHON", raising=False)
    with (
        pytest.raises(
            ParameterError, match="vllm, and ASSAY_VLLM_PYTHON does not name"
        ),
        open_workspace(project, request),
    ):
        pass
    # A Python, and none that has vLLM.
    monkeypatch.setenv("ASSAY_VLLM_PYTHON", sys.executable)
    with (
        pytest.raises(ParameterError, match="ASSAY_VLLM_PYTHON names, has no vLLM"),
        open_workspace(project, request),
    ):
        pass


def test_a_tokenizer_that_is_not_installed_is_said_before_anything_is_trained(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Also where they are installed.
    for name in ("MeCab", "ipadic"):
        monkeypatch.setitem(sys.modules, name, None)
    settings = {"score.bleu.tokenize": "ja-mecab"}
    with (
        pytest.raises(ParameterError, match=r"MeCab and ipadic are not installed"),
        open_workspace(project, TrainRequest(settings=settings)),
    ):
        pass
    unknown = {"score.bleu.tokenize": "jieba"}
    with (
        pytest.raises(ParameterError, match=r"score\.bleu\.tokenize.*'13a'"),
        open_workspace(project, TrainRequest(settings=unknown)),
    ):
        pass


def test_rows_and_base_in_another_alphabet_give_a_model_a_name_of_its_own(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    data = write_rows(project.root / "данные.jsonl", learnable_rows(2))
    assert request_from(data=data).model == "rows-smollm2"


def test_a_model_of_its_bases_own_name_is_refused_before_anything_is_trained(
    project: Project,
) -> None:
    request = TrainRequest(model="SmolLM2-135M-Instruct")
    with (
        pytest.raises(ParameterError, match="is the name under which its base answers"),
        open_workspace(project, request),
    ):
        pass
    assert worktrees(project) == []


def test_a_submodule_is_refused_in_a_sentence_and_left_as_it_was(
    cloned: Path, tmp_path: Path
) -> None:
    git(tmp_path, "init", "--quiet", "whole")
    git(
        tmp_path / "whole",
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(cloned),
        "assay",
    )
    root = tmp_path / "whole/assay"
    project = find_project(root / ".assay", root)
    with (
        pytest.raises(
            WorkspaceError, match=r"whole/assay is a git submodule.*Clone it"
        ),
        open_workspace(project, TrainRequest()),
    ):
        pass
    assert git(root, "for-each-ref", "refs/assay") == ""


@pytest.mark.parametrize("head", ["detached", "unborn"])
def test_a_checkout_without_a_branch_or_without_commits_has_runs(
    project: Project, head: str
) -> None:
    git(
        project.root,
        "checkout",
        "--quiet",
        *(("--detach",) if head == "detached" else ("--orphan", "new")),
    )
    data = write_rows(project.root.parent / "rows.jsonl", learnable_rows(2))
    with open_workspace(
        project, TrainRequest(data=data, settings={"lora.r": 32})
    ) as workspace:
        version_inputs(workspace)
    assert "r: 32" in git(
        project.root, "show", f"refs/assay/runs/{workspace.run_id}/done:params.yaml"
    )


def test_a_workspace_that_cannot_be_furnished_is_taken_away(project: Project) -> None:
    with (
        pytest.raises(ParameterError, match=r"Did you mean lora\.r"),
        open_workspace(project, TrainRequest(settings={"lora.rank": 32})),
    ):
        pass
    assert worktrees(project) == []
    assert len(git(project.root, "worktree", "list").splitlines()) == 1


def test_the_worktree_of_a_dead_run_is_swept_and_that_of_a_live_one_is_left(
    project: Project,
) -> None:
    with open_workspace(project, TrainRequest()) as live:
        dead = project.home / "worktrees/20200101-000000-abcdef"
        git(project.root, "worktree", "add", "--detach", "--quiet", str(dead), "HEAD")
        dead.with_suffix(
            ".lock"
        ).touch()  # as a killed run leaves it: the file stays, the kernel let go of the lock
        remove_dead_worktrees(project)
        assert worktrees(project) == [live.root]
        with FileLock(dead.with_suffix(".lock"), timeout=0):
            pass


def test_a_run_that_has_ended_is_given_once_and_one_that_lives_never(
    project: Project,
) -> None:
    with open_workspace(project, TrainRequest()) as ended:
        assert list(ended_workspaces(project)) == []
    with open_workspace(project, TrainRequest()) as live:
        assert list(ended_workspaces(project)) == [ended.run_id]
        assert list(ended_workspaces(project)) == []
        with pytest.raises(Timeout):
            FileLock(project.home / "worktrees" / f"{live.run_id}.lock").acquire(
                timeout=0
            )


def test_a_run_whose_end_could_not_be_told_is_given_again(project: Project) -> None:
    with open_workspace(project, TrainRequest()) as ended:
        pass
    with pytest.raises(RegistryError):
        tell_an_mlflow_that_is_away(project)
    assert list(ended_workspaces(project)) == [ended.run_id]


def tell_an_mlflow_that_is_away(project: Project) -> None:
    for workspace in ended_workspaces(project):
        raise RegistryError(f"{workspace} cannot be told.")


def test_the_same_request_is_the_same_work_wherever_its_files_lie(
    project: Project, tmp_path: Path
) -> None:
    rows = learnable_rows(60)
    (tmp_path / "elsewhere").mkdir()
    one, other = (
        write_rows(tmp_path / "rows.jsonl", rows),
        write_rows(tmp_path / "elsewhere/again.jsonl", rows),
    )
    assert work(project, TrainRequest(data=one)) == work(
        project, TrainRequest(data=other)
    )


def test_other_rows_parameters_or_names_are_other_work(
    project: Project, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", learnable_rows(60))
    known = {
        work(project, TrainRequest(data=data)),
        work(project, TrainRequest(data=data, settings={"train.seed": 1})),
    }
    known.add(work(project, TrainRequest(data=data, model="other")))
    write_rows(data, learnable_rows(61))
    known.add(work(project, TrainRequest(data=data)))
    assert len(known) == 4


def work(project: Project, request: TrainRequest) -> str:
    with open_workspace(project, request) as workspace:
        return identify(workspace.root, request.model)
