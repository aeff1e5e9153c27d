"""Which held-out groups are sealed no longer: an input of the stage `split`.

ledger: blocks that were opened ──────────┐
what chose what serves ───────────────────┤
home: what any candidate was scored on ───┴─► data/reserve/seen.json ─► split
"""

from pathlib import Path

from core.errors import LedgerError
from flows.run.attempt import fetch_package_of
from flows.run.comparators import find_comparators
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.gates.policy import ScreenPolicy, load_policy
from pipelines.values.dataset import read_rows
from pipelines.values.reserve import SCORED_GROUPS, SeenGroups, key_of
from registry.ledger.ledger import Ledger, read_ledger, was_ever_opened
from registry.ledger.state import RecordedConfirmation
from registry.mlflow.store import Store
from registry.release.confirmed import FOLDER as CONFIRMATION
from registry.release.confirmed import ROWS


def is_sealed(root: Path) -> bool:
    """Whether the workspace's policy asks for a sealed reserve."""
    return screen_policy(root).reserve == "sealed"


def place_seen_groups(
    workspace: Workspace, store: Store | None, model: str, logical_run: str = ""
) -> None:
    """Write which groups are sealed no longer into the workspace.

    Those are of every block that was opened, but for one that this very logical run opened, those
    that the champion and the anchor were scored or confirmed on, which chose what serves, and those
    that any candidate of this home was scored on, released or not: whoever tries a hundred settings
    and keeps the best has chosen by them. Without a store, as in a forecast, the ledger alone says.
    """
    if not is_sealed(workspace.root):
        return
    seen = _opened_groups(workspace.home, model, logical_run)
    seen.update(_scored_groups(workspace.home, model))
    if store is not None:
        for version in find_comparators(store, model, workspace.home):
            package = fetch_package_of(store, version, workspace.home)
            rows = read_rows(package / "held_out.jsonl")
            # Of a version that was received no entry of this ledger names the block's groups.
            block = package / CONFIRMATION / ROWS
            if block.is_file():
                rows += read_rows(block)
            seen.update(key_of(row.group) for row in rows)
    groups = SeenGroups(groups=tuple(sorted(seen)))
    groups.write(workspace.root / layout.SEEN_GROUPS)


def note_scored_groups(workspace: Workspace, model: str) -> None:
    """Keep in the home which groups a candidate is about to be scored on, whatever comes of it."""
    held_out = workspace.root / layout.SPLIT / "held_out.jsonl"
    rows = read_rows(held_out)
    known = _scored_groups(workspace.home, model)
    scored = known | {key_of(row.group) for row in rows}
    # In most runs the groups are those of the run before.
    if scored == known:
        return
    path = _scored_file(workspace.home, model)
    SeenGroups(groups=tuple(sorted(scored))).write(path)


def _scored_groups(home: Path, model: str) -> set[str]:
    path = _scored_file(home, model)
    # Of a damaged file nobody knows what it held: reading it is an error, and no empty set.
    if not path.exists():
        return set()
    return set(SeenGroups.read(path).groups)


def _scored_file(home: Path, model: str) -> Path:
    return home / SCORED_GROUPS / f"{model}.json"


def _opened_groups(home: Path, model: str, logical_run: str) -> set[str]:
    if not was_ever_opened(home):
        return set()
    ledger = read_ledger(home)
    seen: set[str] = set()
    for recorded in ledger.state().confirmations_of(model):
        if recorded.opened.logical_run != logical_run:
            seen.update(groups_of(ledger, recorded))
    return seen


def groups_of(ledger: Ledger, recorded: RecordedConfirmation) -> tuple[str, ...]:
    """The keys of an opened block's groups; `LedgerError` where they were erased."""
    text = ledger.recall(recorded.opened.groups_sha256)
    # Without them nobody can tell which groups are still sealed.
    if text is None:
        raise LedgerError(
            f"The groups of the block of entry {recorded.generation} were erased, so that nobody "
            "knows which are still sealed. Bring the text back from an export with texts."
        )
    return tuple(text.split("\n"))


def screen_policy(root: Path) -> ScreenPolicy:
    """The limits of `screen` in a workspace."""
    return load_policy(root / layout.POLICY).gates.screen
