"""`assay gc`: what nothing names and is old enough goes, and a table says what stays and why. Without `--apply` nothing is touched."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from core.environment import set_library_environment
from core.errors import OperationError
from core.locks import alone
from core.progress import progress_bar
from core.project import Project
from operations.gc import cache, folders
from operations.gc import ended_runs as runs
from operations.gc.referenced import what_stays
from operations.gc.removable import Found, Grounds, Kind
from operations.gc.retention import FILE, Retention, load_retention
from registry.mlflow.retained import Retained

KINDS: tuple[Kind, ...] = (*folders.KINDS, *runs.KINDS, *cache.KINDS)
"""Refs go before what they name in the cache."""
PATIENCE = 10.0


def run_gc(policy: Path | None, *, applies: bool, as_json: bool) -> str:
    """Say what would go, or remove it and say what went."""
    set_library_environment()
    from core.project import find_project
    from core.settings import Settings
    from registry.mlflow.home_store import open_store

    project = find_project(Settings().home)
    retention = load_retention(policy or project.root / FILE)
    uri = open_store(project).uri
    found = (
        clear(project, uri, retention)
        if applies
        else survey(grounds_of(project, uri, retention))
    )
    return (
        json.dumps(machine_readable(found, applied=applies))
        if as_json
        else report(found, applied=applies)
    )


def grounds_of(project: Project, uri: str, retention: Retention) -> Grounds:
    """What decides, read now. A ledger that does not verify, or MLflow out of reach, ends it here."""
    retained = Retained(uri)
    return Grounds(
        project, retention, what_stays(project.home, retained), retained, time.time()
    )


def survey(grounds: Grounds) -> tuple[Found, ...]:
    """Everything that there is, with the reason why it stays."""
    return tuple(found for kind in KINDS for found in kind.look(grounds))


def clear(project: Project, uri: str, retention: Retention) -> tuple[Found, ...]:
    """Remove what may go, alone in the home; gives all that was looked at. Cut short, the next one ends the work."""
    with alone(project.home, PATIENCE):
        grounds = grounds_of(project, uri, retention)
        found = survey(grounds)
        with progress_bar("clearing up", len(found)) as advance:
            for each in found:
                _remove(grounds, each)
                advance(1)
    return found


def _remove(grounds: Grounds, found: Found) -> None:
    if found.kept is not None:
        return
    kind = next(kind for kind in KINDS if kind.name == found.kind)
    try:
        kind.remove(grounds, found)
    except OSError as error:
        raise OperationError(
            f"{found.name} cannot be removed ({error.strerror}). Mend its permissions and run this again; what is gone is gone."
        ) from error


def report(found: Sequence[Found], *, applied: bool) -> str:
    """The table for a person."""
    lines = [f"{'':<26}{'removed' if applied else 'would go':>10}{'space':>12}   kept"]
    for kind in KINDS:
        own = [each for each in found if each.kind == kind.name]
        going = [each for each in own if each.kept is None]
        kept = Counter(each.kept for each in own if each.kept is not None)
        reasons = (
            ", ".join(f"{count}: {why}" for why, count in kept.most_common()) or "none"
        )
        lines.append(f"{kind.name:<26}{len(going):>10}{_space(going):>12}   {reasons}")
    going = [each for each in found if each.kept is None]
    lines.append(f"{'in all':<26}{len(going):>10}{_space(going):>12}")
    if going and not applied:
        lines.append("Nothing was touched. `assay gc --apply` removes it.")
    return "\n".join(lines)


def machine_readable(found: Sequence[Found], *, applied: bool) -> dict[str, object]:
    """What `--json` prints, as one line."""
    going = [each for each in found if each.kept is None]
    return {
        "applied": applied,
        "bytes": sum(each.bytes for each in going),
        "gone": {
            kind.name: [each.name for each in going if each.kind == kind.name]
            for kind in KINDS
        },
        "kept": {
            kind.name: dict(
                Counter(
                    each.kept for each in found if each.kind == kind.name and each.kept
                )
            )
            for kind in KINDS
        },
    }


def _space(found: Sequence[Found]) -> str:
    return f"{sum(each.bytes for each in found) / 1e6:,.1f} MB"
