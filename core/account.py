"""The operating system's account that acts: unlike a name in `ASSAY_USER`, it is not chosen by whoever acts."""

import os
import pwd
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_LONGEST_NAME = 100

LONGEST = 200
"""Letters that an account may have; two names of 60 letters and two numbers are fewer."""
_NOBODY = 2**32 - 1  # the kernel's login uid of a process that no login started
_ROOT = 0
_ACCOUNT = re.compile(r"(\d+)(?: \(([^()]*)\))?")


class Signed(NamedTuple):
    """Who did something: the name that was given, and the account that gave it."""

    name: str
    account: str


def operating_system_account() -> str:
    """Number and name of the account that acts: `1000 (kim)`, or `0 (root) for 1000 (kim)` where kim became root.

    A name stands for whoever reads it; a number without a name is that of a container's arbitrary user.
    """
    acting, began = os.getuid(), _login_uid()
    own = _named(acting)
    if acting != _ROOT or began is None or began == _ROOT:
        return own
    return f"{own} for {_named(began)}"


def same_account(one: str, other: str) -> bool:
    """Whether two accounts may be one person's: they share a number or a name.

    Everybody who acts as root shares root. That counts too few people and never too many.
    """
    return not _marks(one).isdisjoint(_marks(other))


def people(signed: Iterable[Signed]) -> tuple[tuple[Signed, ...], ...]:
    """Everything that each person signed. Whoever shares a name or an account with a person is that person."""
    found: list[tuple[Signed, ...]] = []
    for one in signed:
        same = [
            person for person in found if any(_is_one(one, other) for other in person)
        ]
        found = [person for person in found if person not in same]
        found.append((*(each for person in same for each in person), one))
    return tuple(found)


def _is_one(one: Signed, other: Signed) -> bool:
    return _plain(one.name) == _plain(other.name) or same_account(
        one.account, other.account
    )


def _login_uid() -> int | None:
    """The account that root was reached from.

    The kernel's own record outlives `su` and `sudo` and cannot be set by hand. `SUDO_UID` is asked where there is none.
    """
    try:
        recorded = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        recorded = _NOBODY
    if recorded != _NOBODY:
        return recorded
    given = os.environ.get("SUDO_UID", "")
    return int(given) if re.fullmatch(r"[0-9]{1,9}", given) else None


def _named(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
    plain = re.sub(r"[^\w.@$\\-]", "?", name)[:60]
    return f"{uid} ({plain})"


def _marks(account: str) -> frozenset[str]:
    """Every number and every name in it; text of another form stands for itself, so that nothing is two people by accident."""
    found = _ACCOUNT.findall(account)
    marks = {mark for pair in found for mark in pair if mark}
    return frozenset(_plain(mark) for mark in marks or {account})


def _plain(mark: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", mark).split()).casefold()


def current_user() -> str:
    """Who acts: `ASSAY_USER`, else the login name; cut to what the ledger takes."""
    from core.settings import Settings

    return (Settings().user.strip() or _login_name())[:_LONGEST_NAME]


def _login_name() -> str:
    """That of a container's arbitrary user is its number: nobody is kept from a brake for want of a name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
