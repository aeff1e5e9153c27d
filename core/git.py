"""Git, asked about one repository and no other: the only place that runs it.

A hook, an alias or a shell may have set `GIT_DIR` and the like. If git inherits them, it works on
that repository, whatever folder it was started for.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from core.errors import WorkspaceError

# Settings of the account and the machine. Any other `GIT_…` may name a repository, or change how
# one is read.
_ALLOWED = {
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH",
}
# Our commits skip a person's own set-up: nobody is there to type a passphrase or answer a hook.
_OURS = ("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null")


def git(
    root: Path,
    *arguments: str,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    check: bool = True,
) -> str:
    """What git prints in the folder `root` of a repository.

    `WorkspaceError` where git is missing or refuses; without `check` a refusal gives what it
    printed until then.
    """
    variables = drop_repository_variables(os.environ)
    # With a damaged `.git`, git would look for a repository in the folders above it.
    top = find_top(root) or root.resolve()
    variables["GIT_CEILING_DIRECTORIES"] = str(top.parent)
    variables.update(environment or {})
    command = ["git", "-C", str(root), *_OURS, *arguments]
    try:
        process = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=variables,
        )
    except FileNotFoundError as error:
        raise WorkspaceError(
            "git is not installed. Install it: runs are pinned as git commits."
        ) from error
    if check and process.returncode != 0:
        # git says what is wrong in its last line.
        lines = process.stderr.strip().splitlines() or [f"code {process.returncode}"]
        raise WorkspaceError(
            f"git {arguments[0]} failed in {root} ({lines[-1]}). Look at the repository."
        )
    return process.stdout


def find_top(folder: Path) -> Path | None:
    """The top folder of the git repository around a folder, resolved; None outside of any."""
    resolved = folder.resolve()
    for each in (resolved, *resolved.parents):
        if (each / ".git").exists():
            return each
    return None


def drop_repository_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment that names no repository, for a process that finds its own."""
    return {
        name: setting
        for name, setting in environment.items()
        if not name.startswith("GIT_") or name in _ALLOWED
    }


@contextmanager
def hide_repository() -> Iterator[None]:
    """The same inside this process, for libraries that run git or read its variables."""
    kept = drop_repository_variables(os.environ)
    # They are put back at the end: they belong to the shell that started this process.
    hidden: dict[str, str] = {}
    for name in tuple(os.environ):
        if name not in kept:
            hidden[name] = os.environ.pop(name)
    try:
        yield
    finally:
        os.environ.update(hidden)
