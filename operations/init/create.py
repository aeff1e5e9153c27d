"""Make a project in a folder, without touching what is there already."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.errors import ParameterError, UnreadableData, WorkspaceError
from core.files import write_text
from core.git import find_top, git
from core.home import make_home
from core.project import SUBFOLDER, find_project, find_root
from core.value import Value
from flows.start import default_model_name
from operations.init.project_files import WORKFLOW, Choice, project_files, workflow
from pipelines import layout
from pipelines.models.base_files import check_folder
from pipelines.rows.formats import read_records
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


def create_project(request: InitRequest, current: Path) -> NewProject:
    """Write the files of a project into a folder of the person's; nothing is overwritten.

    `WorkspaceError` where there is a project already or a file is in the way, `UnreadableData`
    where rows or base cannot be read. Nothing is written then.
    """
    _check_is_no_project(current)
    root = _choose_folder(request, current)
    current = current.resolve()
    repository = find_top(current) or current
    choice = _choice(request, root, repository)
    texts = {root / name: text for name, text in project_files(choice).items()}
    texts[repository / WORKFLOW] = workflow(choice)
    rows = _link_to_rows(request, root)
    _check_free([*texts, *rows])
    has_new_repository = find_top(current) is None
    if has_new_repository:
        git(current, "init", "--quiet")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    for path, target in rows.items():
        path.symlink_to(target)
    make_home(find_project(Path(".assay"), root).home)
    return NewProject(
        root=root,
        repository=repository,
        model=choice.model,
        has_new_repository=has_new_repository,
        written=tuple(str(path.relative_to(repository)) for path in (*texts, *rows)),
    )


def _check_is_no_project(current: Path) -> None:
    root = find_root(current)
    if root is not None:
        raise WorkspaceError(
            f"{root} is a project of Assay already. Add a model with a file models/NAME.yaml; "
            "`assay upgrade` brings its files up to date."
        )


def _choose_folder(request: InitRequest, current: Path) -> Path:
    """The current folder, or a subfolder of it where names are taken."""
    if request.folder is not None:
        return (current / request.folder).resolve()
    is_taken = any((current / name).exists() for name in _TAKEN)
    return current / SUBFOLDER if is_taken else current


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
    # To the end: a file that was cut is said now, not at the first run.
    if not sum(1 for _record in read_records(path).records):
        raise UnreadableData(
            f"{path} holds no record. `assay data inspect {path}` says how it was read."
        )


def _named(path: Path | None, root: Path, repository: Path) -> str | None:
    """A path from the project where it lies in the repository, else an absolute one."""
    if path is None:
        return None
    # As it was typed, without `..`: a link in the repository stays a link.
    absolute = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100
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
    return {link: Path(os.path.relpath(target, link.parent))}


def _check_free(paths: Iterable[Path]) -> None:
    taken = [path for path in paths if os.path.lexists(path)]
    if taken:
        raise WorkspaceError(
            f"{taken[0]} exists, and `assay init` overwrites nothing. "
            "Give another folder with --folder, or move that file."
        )
