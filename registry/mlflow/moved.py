"""A home that was moved or copied leads to its own files before anything is read through it.

MLflow's database holds absolute addresses. Followed from a copy, they would have it read the
original's files, and write among them.
"""

from pathlib import Path

from core.errors import OperationError, RegistryError
from core.locks import alone, is_held
from pipelines.models.base_store import put_link
from registry.mlflow.relocate import (
    ARTIFACTS,
    find_former_home,
    find_left_behind,
    relocate,
)

_PATIENCE = 2.0
"""Seconds to wait for whoever uses the home."""


def settle(home: Path, system: Path | None = None) -> str | None:
    """Correct the addresses in a home's records; a sentence that says so, None if it never moved.

    `system` is the lock of a running `assay up`, whose servers hold the former addresses.
    `RegistryError` where the records cannot be corrected now: brakes and `status` work without
    MLflow then, and nothing reads or writes there.
    """
    # With its records at another MLflow a home holds no addresses of its own.
    database = home / "mlflow.db"
    if not database.is_file() or find_former_home(database) is None:
        return None
    # Its servers have the former addresses in memory, and would write them again.
    if system is not None and is_held(system):
        raise RegistryError(
            f"{home} was moved while `assay up` runs in it. "
            "`assay down` ends that; then run this again."
        )
    try:
        with alone(home, _PATIENCE):
            # Asked again: another process may have corrected it while this one waited.
            former_home = find_former_home(database)
            if former_home is None:
                return None
            return _relocate_home(home, database, former_home)
    except OperationError as error:
        raise RegistryError(
            f"{home} was moved, and its records are not corrected yet. {error}"
        ) from error


def _relocate_home(home: Path, database: Path, former_home: Path) -> str:
    real_home = database.parent.resolve()
    missing = find_left_behind(database, former_home, real_home)
    if missing is not None:
        raise RegistryError(
            f"{home} names files that are in another home, as {missing}, "
            "and were not brought along."
            f" Copy {former_home / ARTIFACTS} into {real_home} as well, or restore a backup; "
            "nothing was read or written there."
        )
    # Links first: while the addresses are old, an interrupted call is repeated as a whole.
    _relink(real_home, former_home)
    changed = relocate(database, former_home, real_home)
    if find_former_home(database) is not None:
        raise RegistryError(
            f"The records of {home} still name files in {former_home}. "
            "Restore a backup into an empty home instead."
        )
    return (
        f"This home was in {former_home} before. "
        f"{changed} addresses in its records name {real_home} now."
    )


def _relink(home: Path, former_home: Path) -> None:
    """Correct links to base models that are in the home, or in the project around it."""
    for link in (home / "base-models").glob("*"):
        if not link.is_symlink() or not link.readlink().is_absolute():
            continue
        target = _moved_target(link.readlink(), former_home, home)
        if target is None:
            continue
        # A relative link survives the next move without being corrected.
        is_sibling = target.parent == link.parent
        put_link(link, Path(target.name) if is_sibling else target)


def _moved_target(target: Path, former_home: Path, home: Path) -> Path | None:
    """Where a folder of the former home or its project is now.

    None for one that is elsewhere, or was not moved along.
    """
    moves = (
        (former_home, home),
        (former_home.parent, home.parent),
    )
    for former, current in moves:
        if not target.is_relative_to(former):
            continue
        moved = current / target.relative_to(former)
        if moved.is_dir():
            return moved
    return None
