"""`assay gc`: delete unreferenced items past their retention period, and show why the rest stays.

Without `--apply` nothing is deleted.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from core.environment import set_library_environment
from core.errors import OperationError
from core.locks import alone
from core.progress import progress_bar
from core.project import Project, find_project
from core.settings import Settings
from operations.gc import cache, ended_runs, folders
from operations.gc.referenced import what_stays
from operations.gc.removable import Grounds, Item, Kind
from operations.gc.retention import FILE, Retention, load_retention
from registry.mlflow.retained import Retained

# Refs are deleted before the cache objects that only they refer to.
KINDS: tuple[Kind, ...] = (*folders.KINDS, *ended_runs.KINDS, *cache.KINDS)
PATIENCE = 10.0
"""Seconds to wait for runs and backups that use the home."""
_MEGABYTE = 1e6


def run_gc(policy: Path | None, *, applies: bool, as_json: bool) -> str:
    """Say what would be deleted, or delete it and say what was.

    `ParameterError` where the retention policy does not fit, `BrokenLedger` or `RegistryError`
    where ledger or MLflow cannot be read completely, `OperationError` where the home is in use.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from registry.mlflow.home_store import open_store

    project = find_project(Settings().home)
    retention = load_retention(policy or project.root / FILE)
    # Opened before anything is deleted: without MLflow nobody knows what must stay.
    uri = open_store(project).uri
    if applies:
        items = clear(project, uri, retention)
    else:
        grounds = grounds_of(project, uri, retention)
        items = survey(grounds)
    if as_json:
        document = machine_readable(items, applied=applies)
        return json.dumps(document)
    return report(items, applied=applies)


def grounds_of(project: Project, uri: str, retention: Retention) -> Grounds:
    """Read what decides; the error of a ledger that does not verify, or of MLflow, ends it here."""
    retained = Retained(uri)
    references = what_stays(project.home, retained)
    now = time.time()
    return Grounds(project, retention, references, retained, now)


def survey(grounds: Grounds) -> tuple[Item, ...]:
    """Give every item of every kind, with the reason why it stays."""
    items: list[Item] = []
    for kind in KINDS:
        items_of_kind = kind.look(grounds)
        items.extend(items_of_kind)
    return tuple(items)


def clear(project: Project, uri: str, retention: Retention) -> tuple[Item, ...]:
    """Delete what may be deleted while nobody else uses the home, and give every item.

    A clean-up that was cut short is finished by the next one. `OperationError` where the home is
    in use or an item cannot be deleted.
    """
    with alone(project.home, PATIENCE):
        # Read under the lock: a run may have ended just before.
        grounds = grounds_of(project, uri, retention)
        items = survey(grounds)
        bar = progress_bar("clearing up", len(items))
        with bar as advance:
            for item in items:
                _remove(grounds, item)
                advance(1)
    return items


def _remove(grounds: Grounds, item: Item) -> None:
    if item.kept is not None:
        return
    kind = next(kind for kind in KINDS if kind.name == item.kind)
    try:
        kind.remove(grounds, item)
    except OSError as error:
        raise OperationError(
            f"{item.name} cannot be removed ({error.strerror}). "
            "Fix its permissions and run this again; what was removed stays removed."
        ) from error


def report(items: Sequence[Item], *, applied: bool) -> str:
    """Give the table for a person: a row for each kind, and the total."""
    heading = "removed" if applied else "would go"
    lines = [f"{'':<26}{heading:>10}{'space':>12}   kept"]
    for kind in KINDS:
        items_of_kind = [item for item in items if item.kind == kind.name]
        lines.append(_row(kind.name, items_of_kind))
    removed = _without_reason(items)
    count = len(removed)
    space = _space(removed)
    lines.append(f"{'in all':<26}{count:>10}{space:>12}")
    # The command's name suggests that it has deleted something.
    if removed and not applied:
        lines.append("Nothing was touched. `assay gc --apply` removes it.")
    return "\n".join(lines)


def machine_readable(items: Sequence[Item], *, applied: bool) -> dict[str, object]:
    """Give what `--json` prints, as one line."""
    removed = _without_reason(items)
    names: dict[str, list[str]] = {}
    reasons: dict[str, dict[str, int]] = {}
    for kind in KINDS:
        names[kind.name] = [item.name for item in removed if item.kind == kind.name]
        items_of_kind = [item for item in items if item.kind == kind.name]
        reasons[kind.name] = dict(_count_reasons(items_of_kind))
    return {
        "applied": applied,
        "bytes": sum(item.bytes for item in removed),
        "gone": names,
        "kept": reasons,
    }


def _row(name: str, items: Sequence[Item]) -> str:
    removed = _without_reason(items)
    counted = _count_reasons(items).most_common()
    reasons = [f"{count}: {reason}" for reason, count in counted]
    kept = ", ".join(reasons) or "none"
    space = _space(removed)
    return f"{name:<26}{len(removed):>10}{space:>12}   {kept}"


def _without_reason(items: Sequence[Item]) -> list[Item]:
    return [item for item in items if item.kept is None]


def _count_reasons(items: Sequence[Item]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for item in items:
        if item.kept is not None:
            counted[item.kept] += 1
    return counted


def _space(items: Sequence[Item]) -> str:
    size = sum(item.bytes for item in items)
    megabytes = size / _MEGABYTE
    return f"{megabytes:,.1f} MB"
