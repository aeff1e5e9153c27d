"""`assay.toml`: what makes a folder a checkout of Assay, so that no other DVC project is taken for one."""

import tomllib
from pathlib import Path
from typing import Any

from core.errors import WorkspaceError

FILE = "assay.toml"
FORMAT = "assay-checkout/1"
_ANY_FORMAT = "assay-checkout/"
_COMMAND = "cli:main"
_NEEDED = ("dvc.yaml", "params.yaml", ".git")


def find_checkout(here: Path) -> Path | None:
    """The nearest checkout that a folder is or lies in; None where it lies in none."""
    return next((folder for folder in (here, *here.parents) if is_checkout(folder)), None)


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
        raise WorkspaceError(f"{folder / FILE} is of format {said}, from a newer Assay. Use the `assay` of that checkout.")
    return _table(folder / "pyproject.toml", "project", "scripts").get("assay") == _COMMAND


def _table(path: Path, *names: str) -> dict[str, Any]:
    """A table of a TOML file, empty where there is none: a file that cannot be read makes nothing ours."""
    try:
        found: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # a TOML error is a ValueError, and so is text that is no UTF-8
        return {}
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
