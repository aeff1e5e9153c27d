"""`assay.toml` marks a project of Assay, so that no other DVC project is taken for one."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.address import shown
from core.console import warn_once
from core.errors import WorkspaceError
from core.git import find_top
from core.home import DEFAULT_NAME

FILE = "assay.toml"
FORMAT = "assay-project/1"
SUBFOLDER = "assay"
"""Where `assay init` puts a project in a repository that has files of the same names."""
_ANY_FORMAT = ("assay-project/", "assay-checkout/")
# The formats that this Assay reads; the second marked a clone of Assay's own repository.
_KNOWN_FORMATS = (FORMAT, "assay-checkout/1")
# The command of clones that are older than `assay.toml`.
_COMMAND = "flows.cli:main"
_SERVERS = {
    "mlflow": "MLFLOW_TRACKING_URI",
    "prefect": "PREFECT_API_URL",
    "ledger": "ASSAY_LEDGER_URL",
}
_NEEDED = ("dvc.yaml", "params.yaml")
# A slip in a name would have a command act on another home or other servers without a word.
_KNOWN_NAMES = {
    "assay": ("format", "version", "name", "home"),
    "servers": tuple(_SERVERS),
    "files": None,
}


def find_root(start: Path) -> Path | None:
    """The nearest project that is a folder or contains it; None where there is none.

    A repository's own folder stands for the project in its subfolder `assay`. `WorkspaceError`
    where that project is not whole.
    """
    for folder in (start, *start.parents):
        if is_project(folder):
            return folder
        inside = folder / SUBFOLDER
        # Only of the repository that a person stands in, not of any folder of that name.
        if (folder / ".git").exists() and is_project(inside):
            return inside
    return None


def is_project(folder: Path) -> bool:
    """Whether a folder is a whole project of Assay.

    `WorkspaceError` where one is marked and not whole: if it were skipped, a command would act on
    another home.
    """
    if not _is_marked(folder):
        return False
    missing = [name for name in _NEEDED if not (folder / name).exists()]
    if find_top(folder) is None:
        missing.append(".git")
    if missing:
        names = " and ".join(missing)
        raise WorkspaceError(
            f"{folder} is a project of Assay without {names}. "
            "Bring that back, or clone it again; nothing was done."
        )
    return True


def _is_marked(folder: Path) -> bool:
    """Whether a folder has the marker of a project.

    Clones older than the marker are known by the command in their `pyproject.toml`.
    """
    marker = folder / FILE
    project_format = _table_of_marker(folder, "assay").get("format")
    if project_format in _KNOWN_FORMATS:
        return True
    if isinstance(project_format, str) and project_format.startswith(_ANY_FORMAT):
        raise WorkspaceError(
            f"{marker} is of format {project_format}, from a newer Assay. "
            "Install that one: the project's pages name it."
        )
    scripts = _read_table(folder / "pyproject.toml", "project", "scripts")
    return scripts.get("assay") == _COMMAND


def read_marker(root: Path) -> dict[str, Any]:
    """What `assay.toml` of a folder says; empty where there is none.

    `WorkspaceError` where it cannot be read: if it were passed over, a command would act on
    another home.
    """
    path = root / FILE
    try:
        # Some editors begin a file with a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    # A TOML error is a ValueError, and so is text that is not UTF-8.
    except (OSError, ValueError) as error:
        raise WorkspaceError(
            f"{path} cannot be read as TOML ({error}). Correct it: it marks a project of Assay."
        ) from error


def _check_names(root: Path) -> None:
    """`WorkspaceError` where the marker has a table or a name that means nothing."""
    for table, entries in read_marker(root).items():
        if table not in _KNOWN_NAMES:
            raise _unknown(root, table, tuple(_KNOWN_NAMES))
        if not isinstance(entries, dict):
            raise WorkspaceError(
                f"{root / FILE} has {table!r} as a value. Write it as a table: [{table}]."
            )
        known = _KNOWN_NAMES[table]
        unknown = (
            [] if known is None else [name for name in entries if name not in known]
        )
        if unknown and known is not None:
            raise _unknown(root, f"{table}.{unknown[0]}", known)


def _unknown(root: Path, name: str, known: tuple[str, ...]) -> WorkspaceError:
    return WorkspaceError(
        f"{root / FILE} has {name!r}, which means nothing to this Assay. "
        f"Correct or remove it: {', '.join(known)} are known there."
    )


def _table_of_marker(root: Path, name: str) -> dict[str, Any]:
    marker = read_marker(root)
    table = marker.get(name)
    return table if isinstance(table, dict) else {}


def _read_table(path: Path, *names: str) -> dict[str, Any]:
    """A table of somebody's TOML file; empty where it is missing or cannot be read."""
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
    """A project's folder, and the folder in which it keeps everything else."""

    root: Path
    home: Path


def find_project(home: Path, start: Path | None = None) -> Project:
    """The project around `start` (default: the current folder) with its home.

    Outside of any project it is the one that this code was installed from, with a warning.
    `WorkspaceError` where there is none, or where the home's path cannot be used.
    """
    current = (start or Path.cwd()).resolve()
    root = find_root(current)
    if root is not None:
        return _project(root, home)
    # A brake must work wherever it is typed, so the clone that holds the code is the last resort.
    installed = Path(__file__).resolve().parents[1]
    if not is_project(installed):
        raise WorkspaceError(
            f"{current} is in no project of Assay, which {FILE} marks. "
            "Go to one, or make one here with `assay init`."
        )
    project = _project(installed, home)
    warn_once(
        f"{current} is in no project of Assay: "
        f"this acts on {project.root} and its home {project.home}."
    )
    return project


def _project(root: Path, home: Path) -> Project:
    # What is set in the environment counts before what the project says.
    if home == Path(DEFAULT_NAME):
        home = _own_home(root) or home
    absolute = home if home.is_absolute() else root / home
    check_addressable(absolute)
    return Project(root=root, home=absolute)


def _own_home(root: Path) -> Path | None:
    named = _table_of_marker(root, "assay").get("home", "")
    if not isinstance(named, str):
        raise WorkspaceError(
            f'{root / FILE} names a home that is no path ({named!r}). Write home = ".assay".'
        )
    if not named:
        return None
    home = Path(named).expanduser()
    # The home's files would lie among the project's, where git and a clean-up see them.
    if root.resolve().is_relative_to((root / home).resolve()):
        raise WorkspaceError(
            f"{root / FILE} names a home that holds the project itself ({named}). "
            'Name a folder of its own, such as home = ".assay".'
        )
    return home


def project_servers(start: Path) -> dict[str, str]:
    """Where the project around a folder says that its servers are, by environment variable.

    `WorkspaceError` where an address is no text, or holds a login: the file is part of git; and
    where the file names anything that means nothing, such as a server with a slip in its name.
    """
    root = find_root(start.resolve())
    if root is None:
        return {}
    _check_names(root)
    servers = _table_of_marker(root, "servers")
    found = {}
    for name, variable in _SERVERS.items():
        address = servers.get(name, "")
        if not isinstance(address, str) or shown(address) != address:
            raise WorkspaceError(
                f"{root / FILE} gives {name} no address without a login. "
                f"Write the address alone there, or set {variable}."
            )
        if address:
            found[variable] = address
    return found


def check_addressable(home: Path) -> None:
    """`WorkspaceError` where the address of a database cannot name the home.

    The address ends at the first ? or #, so the files would be created in another folder.
    """
    paths = f"{home}{home.resolve()}"
    if "?" in paths or "#" in paths:
        raise WorkspaceError(
            f"The home {home.resolve()} has a ? or # in its path, "
            "where a database's address ends. Set ASSAY_HOME."
        )
