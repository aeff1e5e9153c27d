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
    "data/reserve",
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
    "data/reserve",
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
    names: tuple[str, ...] = _PINNED
    # In a clone of Assay itself the code is a part of the project.
    if root.resolve() == INSTALLED.resolve():
        names += _PACKAGES
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
            # git refuses where the checkout leaves out all that it tracks here: nothing changed.
            check=not _is_sparse(root),
        )
        _add(root, _files_of(root, names), environment)
        return git(root, "write-tree", environment=environment).strip()
    finally:
        index.unlink(missing_ok=True)


def _is_sparse(root: Path) -> bool:
    setting = git(root, "config", "--bool", "core.sparseCheckout", check=False)
    return setting.strip() == "true"


def _files_of(root: Path, names: tuple[str, ...]) -> Iterator[str]:
    """The files under those names, relative to the root, without Python's caches."""
    for name in names:
        path = root / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                yield file.relative_to(root).as_posix()
    # Beside metrics of the project's own a folder of that name may hold much else.
    for file in sorted((root / layout.OWN_METRICS).glob("*.py")):
        yield file.relative_to(root).as_posix()
    # What the probes of safety read; anything else of that folder is the project's own.
    for file in sorted((root / layout.SAFETY).glob("*")):
        if file.suffix in {".csv", ".jsonl"} and file.is_file():
            yield file.relative_to(root).as_posix()
    # Rows that git does not track, and whatever lies beside them, are no part of a commit.
    for file in sorted((root / layout.RAW).glob("*")):
        if file.suffix == ".dvc" or file.name in _BESIDE_ROWS:
            yield file.relative_to(root).as_posix()


def _add(root: Path, files: Iterator[str], environment: dict[str, str]) -> None:
    # By force: a repository that ignores `data/` or `*.lock` for its own sake changes nothing.
    # And outside of a sparse checkout, too: the files are there.
    git(
        root,
        "-c",
        "core.sparseCheckout=false",
        "add",
        "--force",
        "--pathspec-from-file=-",
        "--pathspec-file-nul",
        stdin="\0".join(f":(literal){file}" for file in files),
        environment=environment,
    )


def _index_file(root: Path, run_id: str) -> Path:
    # Where git keeps its own: beside the folder's index, also of a worktree.
    name = f"assay-index-{run_id}"
    path = git(root, "rev-parse", "--git-path", name)
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
