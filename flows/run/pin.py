"""Git's side of a run: the working tree as a commit, and the commit that records what the run used.

Both are kept under `refs/assay/runs/RUN/`, so that no branch and no index of the person changes.
"""

from collections.abc import Iterator
from pathlib import Path

from core.errors import WorkspaceError
from core.git import git
from core.project import FILE
from pipelines import layout
from pipelines.stage_code import INSTALLED

_PACKAGES = ("core", "pipelines", "registry", "serving", "flows", "operations", "cli")
_PINNED = (
    "data/expectations",
    "data/champion",
    "registry/policies",
    FILE,
    "dvc.yaml",
    "params.yaml",
    "requirements.lock",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
)
"""What a run may need of the working tree, also where git does not track it yet."""
_RECORDED = (
    "params.yaml",
    "dvc.lock",
    "data/code",
    "data/expectations",
    "data/champion/champion.json",
    "registry/policies",
)
_BESIDE_ROWS = (".gitignore", "README.md")
_IDENTITY = {
    "GIT_AUTHOR_NAME": "assay",
    "GIT_AUTHOR_EMAIL": "assay@localhost",
    "GIT_COMMITTER_NAME": "assay",
    "GIT_COMMITTER_EMAIL": "assay@localhost",
}


def check_is_no_submodule(root: Path) -> None:
    """`WorkspaceError` in a git submodule.

    Its git settings name one folder for every worktree, and DVC follows them.
    """
    if git(
        root,
        "config",
        "core.worktree",
        check=False,
    ):
        raise WorkspaceError(
            f"{root} is a git submodule, where DVC cannot work. "
            "Clone it into a folder of its own and go there."
        )


def pin_working_tree(root: Path, run_id: str) -> str:
    """Commit the project as it is and give the commit; branch and index stay as they are."""
    head = git(
        root,
        "rev-parse",
        "--verify",
        "--quiet",
        "HEAD",
        check=False,
    ).strip()
    tree = _write_tree(root, run_id, has_head=bool(head))
    # An unchanged tree is the commit itself: its history stays readable.
    if head and tree == git(root, "rev-parse", "HEAD^{tree}").strip():
        commit = head
    else:
        # A commit that no branch names: the person's history is left alone.
        commit = _commit_tree(
            root,
            run_id,
            tree,
            head,
        )
    git(
        root,
        "update-ref",
        f"refs/assay/runs/{run_id}/pinned",
        commit,
    )
    return commit


def keep_run_commit(root: Path, run_id: str) -> None:
    """Commit the run's overrides and dvc.lock.

    `git show refs/assay/runs/RUN/done:dvc.lock` then names every file of the run by digest.
    """
    _add(root, _files_of(root, _RECORDED), {})
    message = ("--allow-empty", "--no-verify", "-m", f"run {run_id}")
    git(
        root,
        "commit",
        "--quiet",
        *message,
        environment=_IDENTITY,
    )
    git(
        root,
        "update-ref",
        f"refs/assay/runs/{run_id}/done",
        "HEAD",
    )


def _write_tree(root: Path, run_id: str, *, has_head: bool) -> str:
    """Write the working tree through an index of the run's own."""
    index = _index_file(root, run_id)
    environment = {"GIT_INDEX_FILE": str(index), **_IDENTITY}
    # Untracked rows and weights are no part of a commit: only code is pinned.
    no_rows = [
        f":(exclude,literal){layout.RAW}/{path.name}"
        for stem in STEMS
        for path in find_untracked(root / layout.RAW, stem)
    ]
    names = [name for name in _PINNED if (root / name).exists()]
    names += _own_metrics(root)
    try:
        if has_head:
            git(
                root,
                "read-tree",
                "HEAD",
                environment=environment,
            )
        # Of a repository that holds more, the rest is as it was committed.
        git(
            root,
            "add",
            "--update",
            "--",
            ".",
            environment=environment,
        )
        _add(root, _files_of(root, names), environment)
        return git(root, "write-tree", environment=environment).strip()
    finally:
        index.unlink(missing_ok=True)


def _own_metrics(root: Path) -> list[str]:
    """Files of own metrics that git does not ignore: a folder of that name may hold much else."""
    listed = git(
        root,
        "ls-files",
        # One that was added and not committed is not in the run's own index.
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
        "--",
        f":(glob){layout.OWN_METRICS}/*.py",
    )
    names = [name for name in listed.split("\0") if name]
    return [f":(literal){name}" for name in names if (root / name).exists()]


def _index_file(root: Path, run_id: str) -> Path:
    # Where git keeps its own: beside the folder's index, also of a worktree.
    path = git(root, "rev-parse", "--git-path", f"assay-index-{run_id}")
    return root / path.strip()


def _commit_tree(root: Path, run_id: str, tree: str, head: str) -> str:
    # A project without any commit has no parent to give.
    parents = ["-p", head] if head else []
    message = ("-m", f"working tree of run {run_id}")
    commit = git(
        root,
        "commit-tree",
        tree,
        *parents,
        *message,
        environment=_IDENTITY,
    )
    return commit.strip()
