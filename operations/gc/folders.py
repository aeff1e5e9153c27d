"""Folders and files of the home that can be removed each by itself: worktrees, checkpoints, copies, logs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from core.locks import is_held
from flows.run.workspace import remove_dead_worktrees
from operations.gc.removable import TRASH, Found, Grounds, Kind, extent, throw_away


def _worktrees(grounds: Grounds) -> Iterator[Found]:
    for root in sorted((grounds.home / "worktrees").glob("*-*-*")):
        if root.is_dir():
            kept = "its run is alive" if is_held(root.with_suffix(".lock")) else None
            yield _found(grounds, "worktrees", root, kept)


def _checkpoints(grounds: Grounds) -> Iterator[Found]:
    for folder in _inside(grounds.home / "scratch"):
        held = is_held(grounds.home / "leases" / f"fine_tune-{folder.name}.lock")
        kept = (
            "its training is alive"
            if held
            else grounds.too_young(
                extent(folder).changed, grounds.retention.checkpoints
            )
        )
        yield _found(grounds, "checkpoints", folder, kept)


def _evidence(grounds: Grounds) -> Iterator[Found]:
    for folder in _inside(grounds.home / "evidence"):
        yield _copy(
            grounds, "evidence copies", folder, grounds.retention.evidence_copies
        )


def _packages(grounds: Grounds) -> Iterator[Found]:
    for folder in _inside(grounds.home / "packages"):
        if folder.name in grounds.named.packages:
            yield _found(grounds, "package copies", folder, "the ledger names it")
        else:
            yield _copy(
                grounds, "package copies", folder, grounds.retention.package_copies
            )


def _copy(grounds: Grounds, kind: str, folder: Path, days: float) -> Found:
    fetching = is_held(grounds.home / "leases" / f"fetch-{folder.name}.lock")
    kept = (
        "it is being fetched"
        if fetching
        else grounds.too_young(extent(folder).changed, days)
    )
    return _found(grounds, kind, folder, kept)


def _logs(grounds: Grounds) -> Iterator[Found]:
    for path in _inside(grounds.home / "logs"):
        yield _found(
            grounds,
            "logs",
            path,
            grounds.too_young(path.stat().st_mtime, grounds.retention.logs),
        )


def _left_over(grounds: Grounds) -> Iterator[Found]:
    for path in _inside(grounds.home / TRASH):
        yield _found(grounds, "left by a clean-up", path, None)


def _found(grounds: Grounds, kind: str, path: Path, kept: str | None) -> Found:
    return Found(
        kind=kind,
        name=path.relative_to(grounds.home).as_posix(),
        bytes=extent(path).bytes,
        kept=kept,
    )


def _inside(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _throw_away(grounds: Grounds, found: Found) -> None:
    throw_away(grounds.home, grounds.home / found.name)


KINDS = (
    Kind("left by a clean-up", _left_over, _throw_away),
    Kind(
        "worktrees",
        _worktrees,
        lambda grounds, _: remove_dead_worktrees(grounds.project),
    ),
    Kind("checkpoints", _checkpoints, _throw_away),
    Kind("evidence copies", _evidence, _throw_away),
    Kind("package copies", _packages, _throw_away),
    Kind("logs", _logs, _throw_away),
)
