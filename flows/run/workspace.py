"""A run's own workspace: a git worktree at a pinned commit, with the run's overrides and inputs."""

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from core.errors import UnreadableData
from core.files import digest_of_files, write_text
from core.git import git
from core.home import make_home
from core.locks import exclusive, share_home, try_exclusive, workspace_lock
from core.project import Project
from flows.run.pin import check_is_no_submodule, keep_run_commit, pin_working_tree
from flows.run.request import TrainRequest, check_request, overrides
from pipelines import layout
from pipelines.models.base_store import read_base_model
from pipelines.rows.formats import ReadAs, read_records
from pipelines.rows.places import STEMS, find_only, find_untracked, stored_name
from pipelines.stage_code import write_stage_codes
from pipelines.stages.base_model import find_base_model
from pipelines.values.params import Params, override


@dataclass(frozen=True)
class Workspace:
    """Where one run's stages run."""

    run_id: str
    root: Path
    """The project's folder in it: the worktree's own, unless the repository holds more."""
    project: Project
    commit: str
    params: Params

    @property
    def home(self) -> Path:
        """The folder in which the project keeps what its runs make."""
        return self.project.home


@contextmanager
def open_workspace(project: Project, request: TrainRequest) -> Iterator[Workspace]:
    """Pin the working tree, give a worktree with the request's inputs, and remove it at the end.

    A request that cannot be carried out is `ParameterError`, `UnreadableData` or
    `WorkspaceError`, before any stage runs.
    """
    check_is_no_submodule(project.root)
    remove_dead_worktrees(project)
    # Sortable by time, and unique where two runs begin in one second.
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    tree = project.home / "worktrees" / run_id
    # Nobody else may read it: it holds prompts and answers.
    make_home(project.home)
    tree.parent.mkdir(parents=True, exist_ok=True)
    with share_home(project.home), exclusive(workspace_lock(tree)):
        # Pinned first: edits during the run do not reach it.
        commit = pin_working_tree(project.root, run_id)
        root = _add_worktree(project, tree, commit)
        try:
            params = _write_inputs(project, request, root)
            yield Workspace(
                run_id,
                root,
                project,
                commit,
                params,
            )
            keep_run_commit(root, run_id)
        finally:
            _remove_worktree(project, tree)


def remove_dead_worktrees(project: Project) -> None:
    """Remove the worktrees of runs whose process has ended.

    Their lock files stay, until `ended_workspaces` has named the run to its caller.
    """
    for tree in sorted((project.home / "worktrees").glob("*-*-*")):
        if tree.is_dir():
            with try_exclusive(workspace_lock(tree)) as has_ended:
                if has_ended:
                    _remove_worktree(project, tree)


def ended_workspaces(project: Project) -> Iterator[str]:
    """Yield the workspace of every run that has ended, in whatever way.

    A workspace is forgotten once the caller has dealt with its name without an error.
    """
    for lock in sorted((project.home / "worktrees").glob("*-*-*.lock")):
        with try_exclusive(lock) as has_ended:
            if has_ended:
                yield lock.stem
                if not lock.with_suffix("").is_dir():
                    lock.unlink(missing_ok=True)


def place_base_model(workspace: Workspace) -> None:
    """Fetch the base model's weights where its manifest came from the cache without them."""
    manifest, _ = read_base_model(workspace.root / layout.BASE_MODEL)
    weights = workspace.home / "base-models" / manifest.digest
    if not weights.is_dir():
        find_base_model(workspace.params.base_model, workspace.home)


def _write_inputs(project: Project, request: TrainRequest, root: Path) -> Params:
    """Write what the request changes into the worktree, and give the run's parameters."""
    # All runs of a home share one cache, so that a stage that ran before is taken from it.
    cache = project.home / "cache"
    write_text(root / ".dvc/config.local", f"[cache]\n    dir = {cache}\n")
    if request.policy is not None:
        shutil.copyfile(request.policy, root / layout.POLICY)
    params_file = root / layout.PARAMS
    # Before the rows are copied: the parameters say how to read them.
    how = ReadAs.of(check_request(request, params_file).data)
    _copy_rows(
        _rows_of(project, request),
        how,
        root / layout.RAW,
    )
    params = override(params_file, overrides(request, params_file))
    base = params.base_model
    if base.source == "folder" and base.digest is None:
        # A folder can change: the run is about the bytes that are there now.
        _, files = find_base_model(base, project.home)
        digest = digest_of_files(files)
        params = override(params_file, {"base_model.digest": digest})
    # What runs from here on, whatever is installed in the meantime.
    write_stage_codes(root)
    return params


def _rows_of(project: Project, request: TrainRequest) -> dict[str, Path | None]:
    """The request's rows, or those of the project, which `dvc repro` by hand reads too."""
    rows, held_out = request.data, request.held_out
    if rows is None:
        folder = project.root / layout.RAW
        # Own rows in the project are what `dvc repro` by hand would use.
        rows = find_only(folder, "rows")
        held_out = held_out or find_only(folder, "held_out")
    return {"rows": rows, "held_out": held_out}


def _copy_rows(sources: dict[str, Path | None], how: ReadAs, raw: Path) -> None:
    for stem in STEMS:
        # Rows that git tracks came with the worktree; a link may lead nowhere from there.
        for path in find_untracked(raw, stem):
            _remove(path)
        source = sources[stem]
        if source is not None:
            _check_rows(source, how)
            _copy(source, raw / stored_name(stem, source))


def _check_rows(source: Path, how: ReadAs) -> None:
    """Refuse now, and under the name that a person gave it, what `collect` would refuse."""
    if not source.is_file() and not source.is_dir():
        raise UnreadableData(f"There is no file {source}. Give a file of rows.")
    read_records(source, how)


def _copy(source: Path, target: Path) -> None:
    try:
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
    except OSError as error:
        raise UnreadableData(
            f"{source} cannot be read ({error.strerror or error}). Check its permissions."
        ) from error


def _remove(path: Path) -> None:
    # DVC keeps nothing that git tracks. The index is the run's own.
    inside = f":(literal){path.name}"
    git(
        path.parent, "rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--", inside
    )
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _add_worktree(project: Project, tree: Path, commit: str) -> Path:
    """Check the commit out and give the project's folder in it.

    Of a repository that holds more than the project, the rest stays out: it may be large.
    """
    git(
        project.root,
        "worktree",
        "add",
        "--detach",
        "--quiet",
        "--no-checkout",
        str(tree),
        commit,
    )
    # The index names every file of the commit, so that the run's own commit loses none.
    git(tree, "read-tree", "HEAD")
    inside = git(project.root, "rev-parse", "--show-prefix").removesuffix("\n")
    wanted = f":(top,literal){inside}" if inside else "."
    git(tree, "checkout", "--quiet", "HEAD", "--", wanted)
    return tree / inside


def _remove_worktree(project: Project, tree: Path) -> None:
    git(
        project.root,
        "worktree",
        "remove",
        "--force",
        str(tree),
        check=False,
    )
    shutil.rmtree(tree, ignore_errors=True)
    git(
        project.root,
        "worktree",
        "prune",
        check=False,
    )
