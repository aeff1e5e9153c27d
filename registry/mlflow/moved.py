"""A home that was moved or copied leads to its own files again, before anything is read or written through it.

MLflow's database holds absolute addresses. Followed from a copy, they would have it read the original's
files, and write among them.
"""

from pathlib import Path

from core.errors import OperationError, RegistryError
from core.locks import alone, is_held
from pipelines.stages.base_model import put_link
from registry.mlflow.relocate import ARTIFACTS, former_home, left_behind, relocate

_PATIENCE = 2.0


def settle(home: Path, system: Path | None = None) -> str | None:
    """Have what the home's records name lie in this home; a sentence that says so, None where it was not moved.

    `system` is the lock of a running `assay up`, whose servers hold the former addresses. What cannot be put
    right now is `RegistryError`: brakes and `status` do without MLflow then, and nothing reads or writes there.
    """
    database = home / "mlflow.db"
    if not database.is_file() or former_home(database) is None:
        return None
    if system is not None and is_held(system):
        raise RegistryError(
            f"{home} was moved while `assay up` runs in it. `assay down` ends that; then run this again."
        )
    try:
        with alone(home, _PATIENCE):
            before = former_home(database)
            return None if before is None else _relocated(home, database, before)
    except OperationError as error:
        raise RegistryError(
            f"{home} was moved, and its records are not put right yet. {error}"
        ) from error


def _relocated(home: Path, database: Path, before: Path) -> str:
    after = database.parent.resolve()
    missing = left_behind(database, before, after)
    if missing is not None:
        raise RegistryError(
            f"{home} names files that lie in another home, as {missing}, and were not brought along."
            f" Copy {before / ARTIFACTS} into {after} as well, or restore a backup; nothing was read or written there."
        )
    _relink(after, before)
    changed = relocate(database, before, after)
    if former_home(database) is not None:
        raise RegistryError(
            f"The records of {home} still name files in {before}. Restore a backup into an empty home instead."
        )
    return f"This home lay in {before} before. {changed} addresses in its records name {after} now."


def _relink(home: Path, before: Path) -> None:
    """Links to base models that lie in the home, or in the checkout around it, lead to where they lie now."""
    for link in (home / "base-models").glob("*"):
        if link.is_symlink() and link.readlink().is_absolute():
            here = _moved_along(link.readlink(), before, home)
            if here is not None:
                put_link(link, Path(here.name) if here.parent == link.parent else here)


def _moved_along(target: Path, before: Path, home: Path) -> Path | None:
    """Where a folder of the former home or its checkout lies now; None for one that lies elsewhere or stayed behind."""
    for old, new in ((before, home), (before.parent, home.parent)):
        if target.is_relative_to(old) and (new / target.relative_to(old)).is_dir():
            return new / target.relative_to(old)
    return None
