"""What a clean-up looks at: an item, how large it is, and why it stays."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from core.project import Project
from core.value import Value
from operations.gc.referenced import References
from operations.gc.retention import Retention
from registry.mlflow.retained import Retained

DAY = 86_400.0
# In the home, since moving a folder is atomic only within one file system.
TRASH = "trash"


class Item(Value):
    """One item; `kept` is the reason why it stays, None where it is deleted."""

    kind: str
    name: str
    bytes: int
    kept: str | None


@dataclass(frozen=True)
class Grounds:
    """What decides whether an item stays: the policy, the time, and the references to it."""

    project: Project
    retention: Retention
    named: References
    retained: Retained
    now: float
    """Seconds since 1970."""

    @property
    def home(self) -> Path:
        """Where the items are."""
        return self.project.home

    def too_young(self, since: float, days: float) -> str | None:
        """Give the reason to keep an item last changed at `since`; None where it is old enough."""
        age = self.now - since
        retention_period = days * DAY
        if age >= retention_period:
            return None
        return f"younger than {days:g} days"


@dataclass(frozen=True)
class Kind:
    """One kind of items: how they are found, and how one of them is deleted."""

    name: str
    look: Callable[[Grounds], Iterable[Item]]
    remove: Callable[[Grounds, Item], None]


@dataclass(frozen=True)
class Extent:
    """How large a file or a folder is, and when anything in it last changed."""

    bytes: int
    changed: float
    """Seconds since 1970."""


def extent(path: Path) -> Extent:
    """Measure everything at `path`; files that disappear meanwhile count as nothing."""
    size, changed = 0, 0.0
    # lstat: a link counts as itself, and what it leads to is not deleted with it.
    for inner in (path, *path.rglob("*")):
        try:
            status = inner.lstat()
        except FileNotFoundError:
            continue
        changed = max(changed, status.st_mtime)
        if not inner.is_dir():
            size += status.st_size
    return Extent(size, changed)


def throw_away(home: Path, path: Path) -> None:
    """Delete a folder in one step, so that nobody ever sees half of it under its name.

    The next clean-up finishes a deletion that was cut short.
    """
    trash = home / TRASH
    trash.mkdir(exist_ok=True)
    # Moving is atomic, deleting a tree is not.
    place = Path(tempfile.mkdtemp(dir=trash))
    path.rename(place / path.name)
    shutil.rmtree(place)
