"""The home's folder: its owner's alone, since prompts, references, reasons and MLflow's database lie in it as plain files."""

import grp
import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

DEFAULT_NAME = ".assay"
_PRIVATE = 0o700


def make_home(home: Path) -> None:
    """Have the home, closed to others.

    One that Assay made in former times is as open as the umask left it, and is closed now. A folder of another name was made by
    somebody, who may want it so: `assay doctor` tells of it.
    """
    home.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    status = home.stat()
    mode = stat.S_IMODE(status.st_mode)
    if (
        home.name == DEFAULT_NAME
        and status.st_uid == os.geteuid()
        and _closed(mode) != mode
    ):
        with suppress(OSError):  # a file system without modes
            home.chmod(_closed(mode))


def _closed(mode: int) -> int:
    """Closed to everybody else; a group that may write was let in by hand and stays."""
    return mode & ~0o007 if mode & stat.S_IWGRP else mode & ~0o077


def openness(home: Path) -> str | None:
    """Who else may do what in the home, and what to do about it; None where nobody may."""
    status = home.stat()
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IRWXO:
        who, change = "every account of this machine", f"chmod 700 {home}"
    elif mode & stat.S_IRWXG:
        who, change = (
            f"the group {_group(status.st_gid)}",
            f"chmod 700 {home}, unless that is meant",
        )
    else:
        return None
    may = "write" if mode & (stat.S_IWOTH | stat.S_IWGRP) else "read"
    return f"{who} may {may} in {home} (mode {mode:o}), where prompts, references, the ledger and MLflow's database lie. Do: {change}."


def closed_to_us(path: Path) -> str | None:
    """Why this account may not read a path that is there, or may not look whether it is; None where it may."""
    for each in (*reversed(path.absolute().parents), path.absolute()):
        try:
            status = each.lstat()
        except OSError:
            return None  # not there; a folder that is closed was met before
        needed = (
            os.R_OK | os.X_OK
            if each.is_dir() and each == path.absolute()
            else os.X_OK
            if each.is_dir()
            else os.R_OK
        )
        if not os.access(each, needed):
            mode = stat.S_IMODE(status.st_mode)
            return f"you ({_account(os.geteuid())}) may not read {each}: it belongs to {_account(status.st_uid)} (mode {mode:o})"
    return None


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
