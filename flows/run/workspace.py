"""A workspace of a run's own: a git worktree at a pinned commit, with the run's overrides and inputs."""

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from core.errors import ParameterError, UnreadableData, WorkspaceError
from core.files import digest_of_json, write_text
from core.git import git
from core.home import make_home
from core.locks import in_use
from core.project import FILE, Project
from flows.run.request import TrainRequest
from flows.run.work_key import work_key
from pipelines import layout
from pipelines.stages.base_model import base_model, read_base_model
from pipelines.values.params import Params, override
from serving.load import name_of_base

_SUFFIXES = {".jsonl", ".csv", ".parquet"}
_CODE = (
    "core",
    "pipelines",
    "registry",
    "serving",
    "flows",
    "operations",
    "cli",
    "data/expectations",
    "data/champion",
    "data/raw",
)
_PINNED = (
    *_CODE,
    FILE,
    "dvc.yaml",
    "params.yaml",
    "requirements.lock",
    ".dvc",
    ".dvcignore",
)
_ROWS = ("rows", "held_out")
_IDENTITY = {
    "GIT_AUTHOR_NAME": "assay",
    "GIT_AUTHOR_EMAIL": "assay@localhost",
    "GIT_COMMITTER_NAME": "assay",
    "GIT_COMMITTER_EMAIL": "assay@localhost",
}


@dataclass(frozen=True)
class Workspace:
    """Where one run's stages run."""

    run_id: str
    root: Path
    project: Project
    commit: str
    params: Params


@contextmanager
def open_workspace(project: Project, request: TrainRequest) -> Iterator[Workspace]:
    """Pin the working tree as it is, give it a worktree with the request's inputs, and take it away at the end."""
    _check_git(project.root)
    sweep(project)
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    root = project.home / "worktrees" / run_id
    make_home(project.home)
    root.parent.mkdir(parents=True, exist_ok=True)
    with in_use(project.home), FileLock(root.with_suffix(".lock")):
        commit = _pin(project.root, run_id)
        git(project.root, "worktree", "add", "--detach", "--quiet", str(root), commit)
        try:
            yield _furnish(project, request, run_id, root, commit)
            _keep_record(root, run_id)
        finally:
            _remove(project, root)


def sweep(project: Project) -> None:
    """Remove the worktrees of runs that are gone: their lock is free. The lock itself stays until `gone` has given its name."""
    for root in sorted((project.home / "worktrees").glob("*-*-*")):
        if root.is_dir():
            with _of_no_one(root.with_suffix(".lock")) as is_gone:
                if is_gone:
                    _remove(project, root)


def gone(project: Project) -> Iterator[str]:
    """The workspaces of runs that have ended, in whatever way; each is forgotten once its name was dealt with without an error."""
    for lock in sorted((project.home / "worktrees").glob("*-*-*.lock")):
        with _of_no_one(lock) as is_gone:
            if is_gone:
                yield lock.stem
                if not lock.with_suffix("").is_dir():
                    lock.unlink(missing_ok=True)


@contextmanager
def _of_no_one(lock: Path) -> Iterator[bool]:
    """Hold a run's lock where its run is gone; False where that is alive."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        held.release()


def _furnish(
    project: Project, request: TrainRequest, run_id: str, root: Path, commit: str
) -> Workspace:
    """Write what the request changes into the worktree, and name the work by its digest."""
    write_text(
        root / ".dvc" / "config.local", f"[cache]\n    dir = {project.home / 'cache'}\n"
    )
    lying = {} if request.data else _rows_in(project.root / layout.RAW)
    _place(request.data or lying.get("rows"), root / layout.RAW, "rows")
    _place(request.held_out or lying.get("held_out"), root / layout.RAW, "held_out")
    if request.policy is not None:
        shutil.copyfile(request.policy, root / layout.POLICY)
    params = override(root / layout.PARAMS, request.assignments())
    check_name(request.model, params.base_model.id)
    _check_metrics(params)
    if params.base_model.source == "folder" and params.base_model.digest is None:
        manifest, _ = base_model(params.base_model, project.home)
        params = override(root / layout.PARAMS, {"base_model.digest": manifest.digest})
    return Workspace(run_id, root, project, commit, params)


def check_name(model: str, base_id: str) -> None:
    """A base answers under a name of its own, so a model of that name could be trained but never released."""
    if model == name_of_base(base_id):
        raise ParameterError(
            f"{model} is the name under which its base answers, so it could never be released. Give another with --model."
        )


def _check_metrics(params: Params) -> None:
    """Scores come after training: a name that is misspelt is said before."""
    from pipelines.metrics import metric_named

    for name in params.score.metrics:
        metric_named(name)


def place_base_model(workspace: Workspace) -> None:
    """The manifest may have come from the cache: have the weights that it names on this machine too."""
    manifest, _ = read_base_model(workspace.root / layout.BASE_MODEL)
    if not (workspace.project.home / "base-models" / manifest.digest).is_dir():
        base_model(workspace.params.base_model, workspace.project.home)


def identify(workspace: Workspace, model: str) -> str:
    """The logical run that this workspace would do for a model: the same work under two names is a run of each."""
    return digest_of_json({"model": model, "work": work_key(workspace.root)})


def recipe_of(workspace: Workspace) -> str:
    """What makes the adapter and its scores, without the champion that they are held against."""
    return work_key(workspace.root, besides={"data/champion"})


def _rows_in(raw: Path) -> dict[str, Path | None]:
    """Own rows that lie in the checkout, where `dvc repro` by hand reads them too."""
    return {
        stem: next(
            (
                path
                for path in sorted(raw.glob(f"{stem}.*"))
                if path.suffix.lower() in _SUFFIXES
            ),
            None,
        )
        for stem in _ROWS
    }


def _place(source: Path | None, folder: Path, stem: str) -> None:
    if source is None:
        return
    if not source.is_file():
        raise UnreadableData(
            f"There is no file {source}. Give JSONL, CSV or Parquet rows."
        )
    if source.suffix.lower() not in _SUFFIXES:
        raise UnreadableData(
            f"{source} has the unknown format {source.suffix or 'without suffix'}. Give .jsonl, .csv or .parquet."
        )
    try:
        shutil.copyfile(source, folder / f"{stem}{source.suffix.lower()}")
    except OSError as error:
        raise UnreadableData(
            f"{source} cannot be read ({error.strerror}). Check its permissions."
        ) from error


def _check_git(root: Path) -> None:
    """In a submodule git's settings name its folder for every worktree, and DVC takes them at their word."""
    if git(root, "config", "core.worktree", check=False):
        raise WorkspaceError(
            f"{root} is a git submodule, where DVC cannot work. Clone it into a folder of its own and go there."
        )


def _pin(root: Path, run_id: str) -> str:
    """Commit the working tree as it is under `refs/assay/runs/`, without touching the branch or the index."""
    index = (
        root / ".git" / f"assay-index-{run_id}"
        if (root / ".git").is_dir()
        else root / f".assay-index-{run_id}"
    )
    environment = {"GIT_INDEX_FILE": str(index), **_IDENTITY}
    head = git(root, "rev-parse", "--verify", "--quiet", "HEAD", check=False).strip()
    try:
        if head:
            git(root, "read-tree", "HEAD", environment=environment)
        git(root, "add", "--update", environment=environment)
        # Of what is not tracked only code is pinned: rows and weights that lie in the checkout are no part of a commit.
        not_rows = [
            f":(exclude)data/raw/{stem}{suffix}"
            for stem in _ROWS
            for suffix in sorted(_SUFFIXES)
        ]
        git(
            root,
            "add",
            "--all",
            "--",
            *(name for name in _PINNED if (root / name).exists()),
            *not_rows,
            environment=environment,
        )
        tree = git(root, "write-tree", environment=environment).strip()
    finally:
        index.unlink(missing_ok=True)
    if head and tree == git(root, "rev-parse", "HEAD^{tree}").strip():
        commit = head
    else:
        parents = ["-p", head] if head else []
        commit = git(
            root,
            "commit-tree",
            tree,
            *parents,
            "-m",
            f"working tree of run {run_id}",
            environment=_IDENTITY,
        ).strip()
    git(root, "update-ref", f"refs/assay/runs/{run_id}/pinned", commit)
    return commit


def _keep_record(root: Path, run_id: str) -> None:
    """Commit the run's overrides and dvc.lock, so that `git show refs/assay/runs/ID/done:dvc.lock` names every file."""
    there = [
        name
        for name in ("params.yaml", "dvc.lock", "data", "registry/policies")
        if (root / name).exists()
    ]
    git(root, "add", "--all", "--", *there)
    git(
        root,
        "commit",
        "--quiet",
        "--allow-empty",
        "--no-verify",
        "-m",
        f"run {run_id}",
        environment=_IDENTITY,
    )
    git(root, "update-ref", f"refs/assay/runs/{run_id}/done", "HEAD")


def _remove(project: Project, root: Path) -> None:
    git(project.root, "worktree", "remove", "--force", str(root), check=False)
    shutil.rmtree(root, ignore_errors=True)
    git(project.root, "worktree", "prune", check=False)
