"""What runs leave behind by name: their git refs, and the evidence in MLflow of those that were refused."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from core.locks import is_held
from operations.gc.removable import Found, Grounds, Kind
from operations.run_refs import delete_refs, run_refs

_REFS = "run refs"
_EVIDENCE = "evidence of refused runs"


def refs(grounds: Grounds) -> Iterator[Found]:
    """One for each run that has refs in the checkout."""
    for run_id in sorted(run_refs(grounds.project.root)):
        yield Found(kind=_REFS, name=run_id, bytes=0, kept=_why_kept(grounds, run_id))


def kept_commits(grounds: Grounds) -> set[str]:
    """The commits of the runs whose refs stay."""
    stay = {found.name for found in refs(grounds) if found.kept is not None}
    return {
        commit
        for run_id, own in run_refs(grounds.project.root).items()
        if run_id in stay
        for commit in own.values()
    }


def _why_kept(grounds: Grounds, run_id: str) -> str | None:
    if run_id in grounds.named.workspaces:
        return "it made a registered version"
    if is_held(grounds.home / "worktrees" / f"{run_id}.lock"):
        return "its run is alive"
    if _has_another_home(grounds):
        return "the checkout's own home may need it"
    try:
        began = time.mktime(time.strptime(run_id[:15], "%Y%m%d-%H%M%S"))
    except ValueError:
        return "its name says no time"
    return grounds.too_young(began, grounds.retention.run_refs)


def _has_another_home(grounds: Grounds) -> bool:
    """Refs belong to the checkout: with ASSAY_HOME elsewhere, this home's records say nothing about the runs of the usual one."""
    usual = grounds.project.root / ".assay"
    return usual.resolve() != grounds.home.resolve() and (usual / "mlflow.db").exists()


def _delete(grounds: Grounds, found: Found) -> None:
    delete_refs(
        grounds.project.root, run_refs(grounds.project.root).get(found.name, {})
    )


def _evidence(grounds: Grounds) -> Iterator[Found]:
    for run in grounds.retained.refused():
        if run.run_id in grounds.named.runs:
            kept = "it made a registered version"
        elif run.is_marked:
            kept = None
        else:
            kept = grounds.too_young(
                run.ended.timestamp(), grounds.retention.refused_runs
            )
        yield Found(kind=_EVIDENCE, name=run.run_id, bytes=run.bytes, kept=kept)


def _erase(grounds: Grounds, found: Found) -> None:
    grounds.retained.erase(found.name, datetime.fromtimestamp(grounds.now, UTC))


KINDS = (Kind(_REFS, refs, _delete), Kind(_EVIDENCE, _evidence, _erase))
