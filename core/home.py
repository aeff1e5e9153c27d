"""The home's folder, which only its owner may open.

Prompts, references, reasons and MLflow's database are plain files in it.
"""

import grp
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

DEFAULT_NAME = ".assay"
_PRIVATE = 0o700


def make_home(home: Path) -> None:
    """Create the home, or close an existing one to other accounts.

    Older versions of Assay created it as open as the umask was. A folder of another name may be
    open on purpose, so it stays as it is, and `assay doctor` reports it.
    """
    home.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    _hide_from_git(home)
    status = home.stat()
    mode = stat.S_IMODE(status.st_mode)
    if home.name != DEFAULT_NAME or status.st_uid != os.geteuid():
        return
    closed = _without_others(mode)
    if closed != mode:
        # Some file systems have no modes.
        with suppress(OSError):
            home.chmod(closed)


def _hide_from_git(home: Path) -> None:
    """Have git pass the home over, whatever repository it lies in."""
    ignore = home / ".gitignore"
    if home.name == DEFAULT_NAME and not ignore.exists():
        # A home on a full or read-only disk is somebody else's to report.
        with suppress(OSError):
            ignore.write_text("*\n", encoding="utf-8")


def _without_others(mode: int) -> int:
    """The mode without other accounts; a group that may write was allowed by hand and stays."""
    removed = stat.S_IRWXO
    is_group_writable = mode & stat.S_IWGRP
    if not is_group_writable:
        removed |= stat.S_IRWXG
    return mode & ~removed


def describe_openness(home: Path) -> str | None:
    """Who else may do what in the home, and what to do about it; None where nobody may."""
    status = home.stat()
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IRWXO:
        who = "every account of this machine"
        change = f"chmod 700 {home}"
    elif mode & stat.S_IRWXG:
        who = f"the group {_group(status.st_gid)}"
        change = f"chmod 700 {home}, unless that is meant"
    else:
        return None
    may = "write" if mode & (stat.S_IWOTH | stat.S_IWGRP) else "read"
    return (
        f"{who} may {may} in {home} (mode {mode:o}), which holds prompts, references, "
        f"the ledger and MLflow's database. Do: {change}."
    )


def explain_no_access(path: Path) -> str | None:
    """Why this account may not read an existing path, or may not see whether it exists.

    None where it may, and where the path does not exist.
    """
    # From the root down, so that the first closed folder on the way is the one that is named.
    target = path.absolute()
    for place in (*reversed(target.parents), target):
        try:
            status = place.lstat()
        except OSError:
            # Missing: a closed folder above it was found one step earlier.
            return None
        if not os.access(place, _needed_access(place, is_target=place == target)):
            mode = stat.S_IMODE(status.st_mode)
            us = _account(os.geteuid())
            owner = _account(status.st_uid)
            return f"you ({us}) may not read {place}: it belongs to {owner} (mode {mode:o})"
    return None


def _needed_access(place: Path, *, is_target: bool) -> int:
    """Folders on the way are passed through, the target itself is read."""
    if not place.is_dir():
        return os.R_OK
    return os.R_OK | os.X_OK if is_target else os.X_OK


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"account {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
