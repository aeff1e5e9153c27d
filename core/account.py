"""Who acts: the operating system's account, and the user of MLflow's that it logged in as.

Nobody can choose the account, unlike a name. As entries hold it:

| account | who |
| --- | --- |
| `1000 (kim)` | typed in a terminal |
| `0 (root) for 1000 (kim)` | by kim, who became root |
| `mlflow:ann` | on MLflow's pages or over REST |
| `mlflow:ann by 1000 (kim)` | in kim's terminal, after `assay login ann` |
"""

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
_ONE = r"\d+(?: \([^()]*\))?"
_LOGGED_IN = re.compile(rf"(mlflow:.+) by ({_ONE}(?: for {_ONE})?)", re.DOTALL)
MLFLOW = "mlflow:"
"""What the account of a user of MLflow's begins with."""
UNKNOWN = "unknown"
UNKNOWN_ACCOUNT = f"{MLFLOW}{UNKNOWN}"
"""Whoever set an alias in an MLflow that does not say who it was."""


class Signed(NamedTuple):
    """Who did something: the name that was given, and the account that gave it."""

    name: str
    account: str
    persons: frozenset[str] = frozenset()
    """Whom `people.yaml` lists with that account."""


def operating_system_account() -> str:
    """Number and name of the account that acts.

    `1000 (kim)`, or `0 (root) for 1000 (kim)` where kim became root. The name is for people; a
    number without a name is that of a container's arbitrary user.
    """
    acting = os.getuid()
    login = _login_uid()
    account = _describe_uid(acting)
    if acting != _ROOT or login is None or login == _ROOT:
        return account
    # Everybody's root is the same account, so the one that became root is named too.
    return f"{account} for {_describe_uid(login)}"


def is_same_account(one: str, other: str) -> bool:
    """Whether two accounts may be one person's: they share a number or a name.

    Everybody who acts as root shares root. That counts too few people and never too many.
    """
    own_marks = _marks(one)
    other_marks = _marks(other)
    shared = own_marks & other_marks
    return bool(shared)


def group_by_person(signed: Iterable[Signed]) -> tuple[tuple[Signed, ...], ...]:
    """Everything that each person signed. Sharing a name or an account makes one person of two."""
    persons: list[tuple[Signed, ...]] = []
    for one in signed:
        others: list[tuple[Signed, ...]] = []
        merged: list[Signed] = []
        for person in persons:
            if _is_by(person, one):
                # One signature can show that two persons so far are the same one.
                merged.extend(person)
            else:
                others.append(person)
        merged.append(one)
        persons = [*others, tuple(merged)]
    return tuple(persons)


def _is_by(person: tuple[Signed, ...], one: Signed) -> bool:
    return any(_is_same_person(one, other) for other in person)


def _is_same_person(one: Signed, other: Signed) -> bool:
    # Anybody can type another's name: that too counts too few people and never too many.
    if normalise_name(one.name) == normalise_name(other.name):
        return True
    if one.persons & other.persons:
        return True
    return is_same_account(one.account, other.account)


def mlflow_user_of(by: str, account: str) -> str | None:
    """The user of MLflow's who acted, or None.

    By the name and not by the form of the account: somebody may be called `x by 1000 (kim)`.
    """
    if account == f"{MLFLOW}{by}":
        return by
    logged_in = _LOGGED_IN.fullmatch(account)
    if logged_in is not None and logged_in[1] == f"{MLFLOW}{by}":
        return by
    return None


def system_marks(account: str) -> tuple[str, ...]:
    """Numbers and names of the operating system's accounts, the one that logged in first.

    `0 (root) for 1000 (kim)` gives `1000`, `kim`, `0`, `root`. None of text of another form.
    """
    logged_in = _LOGGED_IN.fullmatch(account)
    system = account if logged_in is None else logged_in[2]
    one_or_two_accounts = rf"{_ONE}(?: for {_ONE})?"
    if not re.fullmatch(one_or_two_accounts, system):
        return ()
    marks: list[str] = []
    for number, name in _ACCOUNT.findall(system):
        # Who logged in stands last.
        marks = [number, name, *marks]
    return tuple(mark for mark in marks if mark)


def _login_uid() -> int | None:
    """The account that became root, or None.

    The kernel's own record survives `su` and `sudo`, and cannot be set by hand. `SUDO_UID` is read
    where the kernel has no record.
    """
    try:
        recorded = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        recorded = _NOBODY
    if recorded != _NOBODY:
        return recorded
    number = os.environ.get("SUDO_UID", "")
    is_uid = re.fullmatch(r"[0-9]{1,9}", number)
    if not is_uid:
        return None
    return int(number)


def _describe_uid(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    # The kernel's numbers reach beyond those that the password file can name.
    except (KeyError, OverflowError):
        return str(uid)
    # The name is part of signed entries and of lines on terminals: no control characters.
    printable = re.sub(r"[^\w.@$\\-]", "?", name)[:60]
    return f"{uid} ({printable})"


def _marks(account: str) -> frozenset[str]:
    """Every number and every name in an account.

    Text of another form is its own mark, so that one account is never two people by accident.
    """
    logged_in = _LOGGED_IN.fullmatch(account)
    if logged_in is not None:
        # One person with two identities.
        user, system = logged_in.groups()
        return frozenset({normalise_name(user)}) | _marks(system)
    # Digits in the name of a user of MLflow's are no account's number.
    is_mlflow = account.startswith(MLFLOW)
    pairs = [] if is_mlflow else _ACCOUNT.findall(account)
    # "0 (root) for 1000 (kim)" has four marks: two numbers and two names.
    marks = {mark for pair in pairs for mark in pair if mark}
    if not marks:
        marks = {account}
    return frozenset(normalise_name(mark) for mark in marks)


def normalise_name(name: str) -> str:
    """The name as people read it: width, case, spaces and invisible letters make no other one."""
    compatible = unicodedata.normalize("NFKC", name)
    visible = ""
    for letter in compatible:
        # Format characters, such as a zero-width space.
        if unicodedata.category(letter) != "Cf":
            visible += letter
    words = visible.split()
    text = " ".join(words)
    return text.casefold()


def login_name() -> str:
    """The name of the account that acts, or its number: no variable can change it.

    A missing name must not keep anybody from a brake.
    """
    acting = os.getuid()
    try:
        name = pwd.getpwuid(acting).pw_name
    except (KeyError, OverflowError):
        # A container's arbitrary user has no entry in the password file.
        return f"uid-{acting}"
    printable = re.sub(r"[^\w.@$\\-]", "?", name)
    return printable[:_LONGEST_NAME]


def chosen_name() -> str:
    """What `ASSAY_USER` says; empty where it says nothing."""
    from core.settings import Settings

    user = Settings().user
    return user.strip()
