"""A hook of another repository says by `GIT_DIR` and the like where it stands.

None of it reaches what Assay does to its own.
"""

import os
from pathlib import Path

import pytest

from core.errors import WorkspaceError
from core.files import folder_digests
from core.git import drop_repository_variables
from core.git import git as ask
from flows.run.reproduce import reproduce, version_inputs
from flows.run.request import TrainRequest
from flows.run.workspace import open_workspace
from operations import checks
from tests.operations.keeping.conftest import OLD_RUN, Kept
from tests.support.journey import (
    IDENTITY,
    Checkout,
    git,
    invoke,
    learnable_rows,
    write_rows,
)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Somebody's repository with refs of its own runs; one is old enough to be cleared away."""
    root = tmp_path / "other"
    git(tmp_path, "init", "--quiet", "other")
    (root / "file").write_text("theirs\n")
    git(root, "add", "file")
    git(root, *IDENTITY, "commit", "--quiet", "--message", "theirs")
    for run in (OLD_RUN, "20200101-000000-theirs"):
        git(root, "update-ref", f"refs/assay/runs/{run}/done", "HEAD")
    return root


@pytest.fixture
def in_a_hook(other: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every variable and setting that can lead git to that repository."""
    named = {
        "GIT_DIR": other / ".git",
        "GIT_COMMON_DIR": other / ".git",
        "GIT_WORK_TREE": other,
        "GIT_INDEX_FILE": other / ".git/index",
        "GIT_OBJECT_DIRECTORY": other / ".git/objects",
        "GIT_NAMESPACE": "theirs",
        "GIT_LITERAL_PATHSPECS": 1,
        "GIT_CONFIG_COUNT": 1,
        "GIT_CONFIG_KEY_0": "core.worktree",
        "GIT_CONFIG_VALUE_0": other,
    }
    for name, setting in named.items():
        monkeypatch.setenv(name, str(setting))
    return other


def whole(root: Path) -> dict[str, str]:
    return folder_digests(root)


def refs(root: Path) -> str:
    return ask(root, "for-each-ref", "refs/assay")


def invoked(kept: Kept, *arguments: str | Path) -> str:
    done = invoke(Checkout(kept.project.root, {}), *arguments)
    assert done.code == 0, done.out + done.err
    return done.out


def test_a_clean_up_in_a_hook_of_another_repository_clears_its_own_refs_and_leaves_the_others(
    kept: Kept, in_a_hook: Path
) -> None:
    before = whole(in_a_hook)
    invoked(kept, "gc", "--apply")
    assert whole(in_a_hook) == before
    assert OLD_RUN not in refs(kept.project.root)
    assert kept.run in refs(kept.project.root)


def test_a_backup_in_a_hook_of_another_repository_holds_its_own_refs(
    kept: Kept, in_a_hook: Path, tmp_path: Path
) -> None:
    before = whole(in_a_hook)
    invoked(kept, "backup", tmp_path / "backup")
    assert whole(in_a_hook) == before
    held = ask(
        kept.project.root, "bundle", "list-heads", str(tmp_path / "backup/refs.bundle")
    )
    assert kept.run in held
    assert "theirs" not in held


def test_a_run_in_a_hook_of_another_repository_pins_and_records_in_its_own(
    kept: Kept, in_a_hook: Path, tmp_path: Path
) -> None:
    before = whole(in_a_hook)
    data = write_rows(tmp_path / "rows.jsonl", learnable_rows(20))
    with open_workspace(kept.project, TrainRequest(data=data)) as workspace:
        version_inputs(workspace)
        reproduce(workspace, "collect")
    assert whole(in_a_hook) == before
    assert f"{workspace.run_id}/done" in refs(kept.project.root)
    assert os.environ["GIT_DIR"] == str(in_a_hook / ".git"), (
        "what the hook set is the hook's again"
    )


def test_no_variable_that_gits_own_list_calls_local_to_a_repository_is_handed_on() -> (
    None
):
    local = ask(Path(__file__).parent, "rev-parse", "--local-env-vars").split()
    assert "GIT_DIR" in local
    assert drop_repository_variables(
        dict.fromkeys((*local, "GIT_CONFIG_KEY_0", "HOME"), "theirs")
    ) == {"HOME": "theirs"}


def test_a_damaged_repository_does_not_lead_to_the_one_that_it_lies_in(
    other: Path,
) -> None:
    (other / "inner/.git").mkdir(parents=True)
    with pytest.raises(WorkspaceError, match=r"inner.*Look at the repository"):
        ask(other / "inner", "for-each-ref")


def test_the_doctor_in_a_hook_looks_at_its_own_repository(
    in_a_hook: Path, kept: Kept
) -> None:
    (kept.project.root / ".git/HEAD").unlink()
    (found,) = checks.git(kept.project)
    assert not found.is_ok
