"""What a clean-up looks at, one value for each thing: where it is, how large, and why it stays."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from core.project import Project
from core.value import Value
from operations.gc.referenced import Named
from operations.gc.retention import Retention
from registry.mlflow.retained import Retained

DAY = 86_400.0
TRASH = "trash"


class Found(Value):
    """One thing; `kept` says why it stays, None that it goes."""

    kind: str
    name: str
    bytes: int
    kept: str | None


@dataclass(frozen=True)
class Grounds:
    """What decides: the policy, the time, and what must stay."""

    project: Project
    retention: Retention
    named: Named
    retained: Retained
    now: float

    @property
    def home(self) -> Path:
        """Where the things are."""
        return self.project.home

    def too_young(self, since: float, days: float) -> str | None:
        """The reason to keep something that last changed at `since`; None where it is old enough."""
        return None if self.now - since >= days * DAY else f"younger than {days:g} days"


@dataclass(frozen=True)
class Kind:
    """One kind of things: how they are found, and how one of them is removed."""

    name: str
    look: Callable[[Grounds], Iterable[Found]]
    remove: Callable[[Grounds, Found], None]


@dataclass(frozen=True)
class Extent:
    """How large a file or a folder is, and when anything in it last changed."""

    bytes: int
    changed: float


def extent(path: Path) -> Extent:
    """Of everything at `path`; what goes away meanwhile counts for nothing."""
    bytes_, changed = 0, 0.0
    for each in (path, *path.rglob("*")):
        try:
            status = each.lstat()
        except FileNotFoundError:
            continue
        changed = max(changed, status.st_mtime)
        bytes_ += 0 if each.is_dir() else status.st_size
    return Extent(bytes_, changed)


def throw_away(home: Path, path: Path) -> None:
    """Remove a folder in one step, so that nobody ever finds half of it under its name; a killed removal is ended by the next clean-up."""
    (home / TRASH).mkdir(exist_ok=True)
    gone = Path(tempfile.mkdtemp(dir=home / TRASH))
    path.rename(gone / path.name)
    shutil.rmtree(gone)
