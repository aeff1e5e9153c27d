"""`assay.toml` marks a checkout of Assay, so that no other DVC project is taken for one."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.console import warn_once
from core.errors import WorkspaceError

FILE = "assay.toml"
FORMAT = "assay-checkout/1"
_ANY_FORMAT = "assay-checkout/"
# The command of checkouts that are older than `assay.toml`.
_COMMAND = "flows.cli:main"
_NEEDED = ("dvc.yaml", "params.yaml", ".git")


def find_checkout(start: Path) -> Path | None:
    """The nearest checkout that is a folder or contains it; None where there is none.

    `WorkspaceError` where that checkout is not whole.
    """
    for folder in (start, *start.parents):
        if is_checkout(folder):
            return folder
    return None


def is_checkout(folder: Path) -> bool:
    """Whether a folder is a whole checkout of Assay.

    `WorkspaceError` where one is marked and not whole: if it were skipped, a command would act on
    another home.
    """
    if not _is_marked(folder):
        return False
    missing = [name for name in _NEEDED if not (folder / name).exists()]
    if missing:
        names = " and ".join(missing)
        raise WorkspaceError(
            f"{folder} is a checkout of Assay without {names}. "
            "Bring that back, or clone it again; nothing was done."
        )
    return True


def _is_marked(folder: Path) -> bool:
    """Whether a folder has the marker of a checkout.

    Checkouts older than the marker are known by the command in their `pyproject.toml`.
    """
    marker = folder / FILE
    checkout_format = _read_table(marker, "assay").get("format")
    if checkout_format == FORMAT:
        return True
    if isinstance(checkout_format, str) and checkout_format.startswith(_ANY_FORMAT):
        raise WorkspaceError(
            f"{marker} is of format {checkout_format}, from a newer Assay. "
            "Use the `assay` of that checkout."
        )
    scripts = _read_table(folder / "pyproject.toml", "project", "scripts")
    return scripts.get("assay") == _COMMAND


def _read_table(path: Path, *names: str) -> dict[str, Any]:
    """A table of a TOML file; empty where it is missing or the file cannot be read."""
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    # A TOML error is a ValueError, and so is text that is not UTF-8.
    except (OSError, ValueError):
        return {}
    for name in names:
        # A file of somebody else's may hold anything under that name.
        if not isinstance(table, dict):
            return {}
        table = table.get(name)
    return table if isinstance(table, dict) else {}


@dataclass(frozen=True)
class Project:
    """A checkout of Assay and the folder in which it keeps everything else."""

    root: Path
    home: Path


def find_project(home: Path, start: Path | None = None) -> Project:
    """The checkout around `start` (default: the current folder) with its home.

    Outside of any checkout it is the one that this code was installed from, with a warning.
    `WorkspaceError` where there is none, or where the home's path cannot be used.
    """
    current = (start or Path.cwd()).resolve()
    root = find_checkout(current)
    if root is not None:
        return _project(root, home)
    # A brake must work wherever it is typed, so the code's own checkout is the last resort.
    installed = Path(__file__).resolve().parents[1]
    if not is_checkout(installed):
        raise WorkspaceError(
            f"{current} is in no checkout of Assay, which {FILE} marks. Clone it and go there."
        )
    project = _project(installed, home)
    warn_once(
        f"{current} is in no checkout of Assay: "
        f"this acts on {project.root} and its home {project.home}."
    )
    return project


def _project(root: Path, home: Path) -> Project:
    absolute = home if home.is_absolute() else root / home
    _check_addressable(absolute)
    return Project(root=root, home=absolute)


def _check_addressable(home: Path) -> None:
    """`WorkspaceError` where the address of a database cannot name the home.

    The address ends at the first ? or #, so the files would be created in another folder.
    """
    paths = f"{home}{home.resolve()}"
    if "?" in paths or "#" in paths:
        raise WorkspaceError(
            f"The home {home.resolve()} has a ? or # in its path, "
            "where a database's address ends. Set ASSAY_HOME."
        )
