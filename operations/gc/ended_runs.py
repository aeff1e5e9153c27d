"""What runs leave behind by name: their git refs, and the evidence in MLflow of refused ones."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from core.locks import is_held
from operations.gc.removable import Grounds, Item, Kind
from operations.run_refs import delete_refs, may_be_of_another_project, run_refs

_REFS = "run refs"
_EVIDENCE = "evidence of refused runs"
# A run id begins with its start, in local time.
_START_IN_A_RUN_ID = "%Y%m%d-%H%M%S"
_LETTERS_OF_A_START = 15


def refs(grounds: Grounds) -> Iterator[Item]:
    """Give one item for each run that has refs in the project."""
    root = grounds.project.root
    for run_id, refs_of_run in sorted(run_refs(root).items()):
        reason = _reason_to_keep_refs(grounds, run_id, refs_of_run)
        yield Item(
            kind=_REFS,
            name=run_id,
            bytes=0,  # refs are small, and what they name is shared with others
            kept=reason,
        )


def kept_commits(grounds: Grounds) -> set[str]:
    """Give the commits of the runs whose refs stay."""
    kept_runs = {item.name for item in refs(grounds) if item.kept is not None}
    commits: set[str] = set()
    refs_by_run = run_refs(grounds.project.root)
    for run_id, commits_by_ref in refs_by_run.items():
        if run_id in kept_runs:
            commits.update(commits_by_ref.values())
    return commits


def _reason_to_keep_refs(
    grounds: Grounds, run_id: str, refs_of_run: dict[str, str]
) -> str | None:
    if run_id in grounds.named.workspaces:
        return "it made a registered version"
    if is_held(grounds.home / "worktrees" / f"{run_id}.lock"):
        return "its run is alive"
    # This home's records cannot tell whether the other home still needs the run.
    if _has_another_home(grounds):
        return "the project's own home may need it"
    if may_be_of_another_project(grounds.project.root, refs_of_run):
        return "another project of the repository may need it"
    try:
        start = time.strptime(run_id[:_LETTERS_OF_A_START], _START_IN_A_RUN_ID)
        began = time.mktime(start)
    except ValueError:
        return "its name says no time"
    return grounds.too_young(began, grounds.retention.run_refs)


def _has_another_home(grounds: Grounds) -> bool:
    """Tell whether the project has another home, whose records this home does not know.

    Refs belong to the project, and with ASSAY_HOME elsewhere two homes use it.
    """
    usual = grounds.project.root / ".assay"
    if usual.resolve() == grounds.home.resolve():
        return False
    database = usual / "mlflow.db"
    return database.exists()


def _delete_refs(grounds: Grounds, item: Item) -> None:
    root = grounds.project.root
    refs_of_run = run_refs(root).get(item.name, {})
    delete_refs(root, refs_of_run)


def _evidence(grounds: Grounds) -> Iterator[Item]:
    days = grounds.retention.refused_runs
    for run in grounds.retained.refused():
        if run.run_id in grounds.named.runs:
            reason: str | None = "it made a registered version"
        elif run.is_marked:
            # An earlier clean-up was cut short after it had marked the run.
            reason = None
        else:
            reason = grounds.too_young(run.ended.timestamp(), days)
        yield Item(kind=_EVIDENCE, name=run.run_id, bytes=run.bytes, kept=reason)


def _erase_evidence(grounds: Grounds, item: Item) -> None:
    now = datetime.fromtimestamp(grounds.now, UTC)
    grounds.retained.erase(item.name, now)


KINDS = (Kind(_REFS, refs, _delete_refs), Kind(_EVIDENCE, _evidence, _erase_evidence))
