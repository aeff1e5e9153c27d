"""`assay.toml`: what makes a folder a checkout of Assay, so that no other DVC project is taken for one."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.console import warn_once
from core.errors import WorkspaceError

FILE = "assay.toml"
FORMAT = "assay-checkout/1"
_ANY_FORMAT = "assay-checkout/"
_COMMAND = "flows.cli:main"
_NEEDED = ("dvc.yaml", "params.yaml", ".git")


def find_checkout(here: Path) -> Path | None:
    """The nearest checkout that a folder is or lies in; None where it lies in none."""
    return next(
        (folder for folder in (here, *here.parents) if is_checkout(folder)), None
    )


def is_checkout(folder: Path) -> bool:
    """Whether a folder is a whole checkout of Assay.

    One that is marked and not whole is `WorkspaceError`: passed over, it would have a command act on another home.
    """
    if not _is_ours(folder):
        return False
    missing = [name for name in _NEEDED if not (folder / name).exists()]
    if missing:
        raise WorkspaceError(
            f"{folder} is a checkout of Assay without {' and '.join(missing)}. Bring that back, or clone it anew; nothing was done."
        )
    return True


def _is_ours(folder: Path) -> bool:
    """By its marker; checkouts of before there was one by the command that their `pyproject.toml` makes."""
    said = _table(folder / FILE, "assay").get("format")
    if said == FORMAT:
        return True
    if isinstance(said, str) and said.startswith(_ANY_FORMAT):
        raise WorkspaceError(
            f"{folder / FILE} is of format {said}, from a newer Assay. Use the `assay` of that checkout."
        )
    return (
        _table(folder / "pyproject.toml", "project", "scripts").get("assay") == _COMMAND
    )


def _table(path: Path, *names: str) -> dict[str, Any]:
    """A table of a TOML file, empty where there is none: a file that cannot be read makes nothing ours."""
    try:
        found: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (
        OSError,
        ValueError,
    ):  # a TOML error is a ValueError, and so is text that is no UTF-8
        return {}
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Project:
    """A checkout of Assay and the folder in which it keeps everything else."""

    root: Path
    home: Path


def find_project(home: Path, start: Path | None = None) -> Project:
    """The checkout around `start` (default: the current folder), else the one that this code was installed from."""
    here = (start or Path.cwd()).resolve()
    root = find_checkout(here)
    if root is not None:
        return _project(root, home)
    installed = Path(__file__).resolve().parents[1]
    if not is_checkout(installed):
        raise WorkspaceError(
            f"{here} lies in no checkout of Assay, which {FILE} marks. Clone it and go there."
        )
    project = _project(installed, home)
    warn_once(
        f"{here} lies in no checkout of Assay: this acts on {project.root} and its home {project.home}."
    )
    return project


def _project(root: Path, home: Path) -> Project:
    return Project(
        root=root, home=_addressable(home if home.is_absolute() else root / home)
    )


def _addressable(home: Path) -> Path:
    """A home that the address of a database can name: it ends at the first ? or #, and the files would lie in another folder."""
    if any(mark in f"{home}{home.resolve()}" for mark in "?#"):
        raise WorkspaceError(
            f"The home {home.resolve()} has a ? or # in its path, where a database's address ends. Set ASSAY_HOME."
        )
    return home
