"""Git, asked about one repository and no other: the only place that runs it.

A hook, an alias or a shell may have set `GIT_DIR` and the like. Handed on, they lead every git process
to that repository, whatever folder it was started for.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from core.errors import WorkspaceError

_ALLOWED = {
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH",
}
"""What belongs to the account and the machine. Any other `GIT_…` may name a repository, or change how one is read."""
_OURS = ("-c", "commit.gpgsign=false", "-c", "core.hooksPath=/dev/null")
"""What a person has set up for their own commits is not for ours: nobody is there to type a passphrase or to please a hook."""


def git(
    root: Path,
    *arguments: str,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    check: bool = True,
) -> str:
    """What git prints for the repository whose top folder is `root`.

    `WorkspaceError` where git refuses; without `check` a refusal gives what it printed until then.
    """
    # A `.git` that is damaged must not lead to the repository that `root` may lie in.
    own = {"GIT_CEILING_DIRECTORIES": str(root.resolve().parent), **(environment or {})}
    command = ["git", "-C", str(root), *_OURS, *arguments]
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**without_repository(os.environ), **own},
        )
    except FileNotFoundError as error:
        raise WorkspaceError(
            "git is not installed. Install it: runs are pinned as git commits."
        ) from error
    if check and done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        raise WorkspaceError(
            f"git {arguments[0]} failed in {root} ({said}). Mend the checkout."
        )
    return done.stdout


def without_repository(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment that names no repository, for a process that finds its own."""
    return {
        name: setting
        for name, setting in environment.items()
        if not name.startswith("GIT_") or name in _ALLOWED
    }


@contextmanager
def no_repository_named() -> Iterator[None]:
    """The same for libraries inside this process that run git or read its variables themselves."""
    kept = without_repository(os.environ)
    taken = {name: setting for name, setting in os.environ.items() if name not in kept}
    for name in taken:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(taken)
