"""Make a project in a folder, without touching what is there already."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.errors import ParameterError, UnreadableData, WorkspaceError
from core.files import write_text
from core.git import find_top, git
from core.home import DEFAULT_NAME, make_home
from core.project import FILE, SUBFOLDER, check_addressable, find_root
from core.value import Value
from flows.run.pin import check_is_no_submodule
from flows.start import default_model_name
from operations.init.project_files import Choice, project_files, workflows
from operations.inspect_data import InspectRequest, check_usable, inspect_data
from pipelines import layout
from pipelines.models.base_files import check_folder
from pipelines.rows.places import stored_name
from registry.ledger.entries import MODEL_NAME

_TAKEN = (
    "dvc.yaml",
    "dvc.lock",
    "params.yaml",
    ".dvc",
    "data",
    "registry",
    "infra",
    "models",
)
"""Names that a project of Assay uses: where one is there, the project gets a folder of its own."""
_LICENCE = "LicenseRef-brought-by-user"
_MODEL_NAME = re.compile(MODEL_NAME)


class InitRequest(Value):
    """What a person says of the new project; None is left to `assay init`."""

    data: Path | None = None
    base_model: Path | None = None
    model: str | None = None
    licence: str | None = None
    folder: Path | None = None
    """Relative to the current folder."""


class NewProject(Value):
    """What was made, and where."""

    root: Path
    repository: Path
    model: str | None
    has_new_repository: bool
    written: tuple[str, ...]
    """Paths of the files, relative to the repository."""
    outside: tuple[str, ...] = ()
    """Rows and base that lie outside the repository, which a colleague's clone does not bring."""


def create_project(request: InitRequest, current: Path) -> NewProject:
    """Write the files of a project into a folder of the person's; nothing is overwritten.

    `WorkspaceError` where there is a project already, a file is in the way, or git cannot work
    there; `UnreadableData` where rows or base cannot be read. Nothing is written then. After a
    kill the same command goes on where it was.
    """
    current = current.resolve()
    plan = _plan(request, current)
    _check_is_no_project(plan.root)
    check_addressable(plan.root / DEFAULT_NAME)
    _check_free(plan)
    has_new_repository = find_top(plan.root) is None
    if has_new_repository:
        git(current, "init", "--quiet")
    for path, text in plan.texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    for path, target in plan.links.items():
        if not _leads_to(path, target):
            path.symlink_to(target)
    make_home(plan.root / DEFAULT_NAME)
    # Last: what it marks is whole.
    write_text(plan.root / FILE, plan.marker)
    written = (*plan.texts, *plan.links, plan.root / FILE)
    return NewProject(
        root=plan.root,
        repository=plan.repository,
        model=plan.model,
        has_new_repository=has_new_repository,
        written=tuple(str(path.relative_to(plan.repository)) for path in written),
        outside=_outside(request, plan.repository),
    )


def _outside(request: InitRequest, repository: Path) -> tuple[str, ...]:
    paths = [path for path in (request.data, request.base_model) if path is not None]
    outside = []
    for path in paths:
        absolute = _absolute(path)
        if not absolute.is_relative_to(repository):
            outside.append(str(absolute))
    return tuple(outside)


@dataclass(frozen=True)
class _Plan:
    """What would be written where."""

    root: Path
    repository: Path
    model: str | None
    marker: str
    texts: Mapping[Path, str]
    links: Mapping[Path, Path]

    def is_written(self, path: Path) -> bool:
        """Whether a file is as it would be written: the rest of a command that was killed."""
        if path in self.links:
            return _leads_to(path, self.links[path])
        return path.is_file() and path.read_bytes() == self.texts.get(path, "").encode()


def _plan(request: InitRequest, current: Path) -> _Plan:
    """For the folder that was asked for; else the current one, or a subfolder of it."""
    if request.folder is not None:
        return _plan_in(
            (current / request.folder.expanduser()).resolve(), request, current
        )
    plan = _plan_in(current, request, current)
    if any(_holds_others(current / name, plan) for name in _TAKEN):
        return _plan_in(current / SUBFOLDER, request, current)
    return plan


def _plan_in(root: Path, request: InitRequest, current: Path) -> _Plan:
    repository = _repository_of(root, current)
    choice = _choice(request, root, repository)
    files = project_files(choice)
    marker = files.pop(FILE)
    texts = {root / name: text for name, text in files.items()}
    for name, text in workflows(choice).items():
        texts[repository / name] = text
    links = _link_to_rows(request, root)
    return _Plan(root, repository, choice.model, marker, texts, links)


def _repository_of(root: Path, current: Path) -> Path:
    """The repository that the project is part of; the current folder becomes one otherwise."""
    there = next(each for each in (root, *root.parents) if each.is_dir())
    top = find_top(there)
    # A repository without a working tree has no `.git` in it.
    is_inside = git(
        there, "rev-parse", "--is-inside-work-tree", check=top is not None
    ).strip()
    if is_inside == "false":
        raise WorkspaceError(
            f"{there} is the inside of a git repository. Go to a folder with files of it."
        )
    if top is not None:
        check_is_no_submodule(there)
        return top
    if not root.is_relative_to(current):
        raise WorkspaceError(
            f"{root} is in no git repository. Go there, and type `assay init` without --folder."
        )
    return current


def _check_is_no_project(folder: Path) -> None:
    root = find_root(folder)
    if root is not None:
        raise WorkspaceError(
            f"{root} is a project of Assay already. Add a model with a file models/NAME.yaml; "
            "`assay upgrade` brings its files up to date."
        )


def _holds_others(path: Path, plan: _Plan) -> bool:
    """Whether there is a file that is not as the plan would write it."""
    if path.is_symlink() or not path.is_dir():
        return os.path.lexists(path) and not plan.is_written(path)
    below = (each for each in path.rglob("*") if each.is_symlink() or not each.is_dir())
    return any(not plan.is_written(each) for each in below)


def _choice(request: InitRequest, root: Path, repository: Path) -> Choice:
    """What was said, checked, with paths as the files will name them."""
    if request.data is not None:
        _check_rows(request.data)
    if request.base_model is not None:
        check_folder(request.base_model)
    model = request.model
    if model is None and (request.data or request.base_model):
        given = {"data": request.data, "base_model": request.base_model}
        model = default_model_name({name: path for name, path in given.items() if path})
    if model is not None and _MODEL_NAME.fullmatch(model) is None:
        raise ParameterError(
            f"{model!r} is no name of a model. Use letters, digits, dot, dash and underscore."
        )
    inside = root.resolve().relative_to(repository.resolve()).as_posix()
    return Choice(
        name=repository.name or "project",
        folder=inside,
        model=model,
        data=_named(request.data, root, repository),
        licence=request.licence or _LICENCE,
        base_model=_named(request.base_model, root, repository),
    )


def _check_rows(path: Path) -> None:
    if not path.exists():
        raise UnreadableData(f"There is no file {path}. --data wants an existing file.")
    # To the end, and with its columns: what no run could use is said now.
    check_usable(inspect_data(InspectRequest(file=path)), path)


def _absolute(path: Path) -> Path:
    # As it was typed, without `..`: a link in the repository stays a link.
    expanded = path.expanduser()
    return Path(os.path.abspath(expanded))  # noqa: PTH100


def _named(path: Path | None, root: Path, repository: Path) -> str | None:
    """A path from the project where it lies in the repository, else an absolute one."""
    if path is None:
        return None
    absolute = _absolute(path)
    if absolute.is_relative_to(repository):
        return os.path.relpath(absolute, root)
    return str(absolute)


def _link_to_rows(request: InitRequest, root: Path) -> Mapping[Path, Path]:
    """Where `dvc repro` by hand finds the rows: a link, so that they are kept once."""
    if request.data is None:
        return {}
    name = stored_name("rows", request.data)
    link = (root / layout.RAW / name).absolute()
    target = os.path.abspath(request.data.expanduser())  # noqa: PTH100
    relative = os.path.relpath(target, link.parent)
    return {link: Path(relative)}


def _leads_to(link: Path, target: Path) -> bool:
    return link.is_symlink() and link.readlink() == target


def _check_free(plan: _Plan) -> None:
    paths = (plan.root / FILE, *plan.texts, *plan.links)
    taken = [
        path for path in paths if os.path.lexists(path) and not plan.is_written(path)
    ]
    if taken:
        raise WorkspaceError(
            f"{taken[0]} exists, and `assay init` overwrites nothing. "
            "Give another folder with --folder, or move that file."
        )
