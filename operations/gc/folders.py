"""Folders and files of the home that can each be deleted by themselves."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from core.locks import is_held
from flows.run.workspace import remove_dead_worktrees
from operations.gc.removable import TRASH, Grounds, Item, Kind, extent, throw_away

_LEFTOVERS = "left by a clean-up"


def _worktrees(grounds: Grounds) -> Iterator[Item]:
    for root in sorted((grounds.home / "worktrees").glob("*-*-*")):
        # Lock files are named like the worktrees that they are of.
        if root.is_dir():
            is_alive = is_held(root.with_suffix(".lock"))
            reason = "its run is alive" if is_alive else None
            yield _item(grounds, "worktrees", root, reason)


def _checkpoints(grounds: Grounds) -> Iterator[Item]:
    for folder in _children(grounds.home / "scratch"):
        # Of a training, or of answers on their way: each stage has a lock of its own.
        locks = (grounds.home / "leases").glob(f"*-{folder.name}.lock")
        if any(is_held(lock) for lock in locks):
            reason: str | None = "its stage is alive"
        else:
            changed = extent(folder).changed
            reason = grounds.too_young(changed, grounds.retention.checkpoints)
        yield _item(grounds, "checkpoints", folder, reason)


def _evidence(grounds: Grounds) -> Iterator[Item]:
    days = grounds.retention.evidence_copies
    for folder in _children(grounds.home / "evidence"):
        reason = _reason_to_keep_copy(grounds, folder, days)
        yield _item(grounds, "evidence copies", folder, reason)


def _packages(grounds: Grounds) -> Iterator[Item]:
    days = grounds.retention.package_copies
    for folder in _children(grounds.home / "packages"):
        reason: str | None = "the ledger names it"
        if folder.name not in grounds.named.packages:
            reason = _reason_to_keep_copy(grounds, folder, days)
        yield _item(grounds, "package copies", folder, reason)


def _reason_to_keep_copy(grounds: Grounds, folder: Path, days: float) -> str | None:
    # The fetching process holds the lock, and gives the folder its name only at the end.
    lock = grounds.home / "leases" / f"fetch-{folder.name}.lock"
    if is_held(lock):
        return "it is being fetched"
    return grounds.too_young(extent(folder).changed, days)


def _logs(grounds: Grounds) -> Iterator[Item]:
    days = grounds.retention.logs
    for path in _children(grounds.home / "logs"):
        last_line = path.stat().st_mtime
        reason = grounds.too_young(last_line, days)
        yield _item(grounds, "logs", path, reason)


def _leftovers(grounds: Grounds) -> Iterator[Item]:
    """Find folders whose deletion was cut short; they are never kept."""
    trash = grounds.home / TRASH
    for path in _children(trash):
        yield _item(grounds, _LEFTOVERS, path, None)


def _item(grounds: Grounds, kind: str, path: Path, reason: str | None) -> Item:
    return Item(
        kind=kind,
        name=path.relative_to(grounds.home).as_posix(),
        bytes=extent(path).bytes,
        kept=reason,
    )


def _children(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return ()
    return sorted(folder.iterdir())


def _throw_away(grounds: Grounds, item: Item) -> None:
    path = grounds.home / item.name
    throw_away(grounds.home, path)


def _sweep_worktrees(grounds: Grounds, _: Item) -> None:
    # git keeps a record of each worktree, so they are removed by git and all at once.
    remove_dead_worktrees(grounds.project)


KINDS = (
    Kind(_LEFTOVERS, _leftovers, _throw_away),
    Kind("worktrees", _worktrees, _sweep_worktrees),
    Kind("checkpoints", _checkpoints, _throw_away),
    Kind("evidence copies", _evidence, _throw_away),
    Kind("package copies", _packages, _throw_away),
    Kind("logs", _logs, _throw_away),
)
