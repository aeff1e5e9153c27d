"""`assay restore`: a backup into an empty home, verified before the first byte is written.

The home appears complete or not at all.
"""

from pathlib import Path

from core.environment import set_library_environment
from core.errors import OperationError
from core.progress import progress_bar
from core.project import Project, find_project
from core.settings import Settings
from operations.backup.copying import appearing, copy_bytes, explained
from operations.backup.manifest import (
    HOME,
    LEDGER,
    REFS,
    Backup,
    CopiedFile,
    check_backup,
)
from operations.run_refs import fetch_refs
from registry.ledger.audit import restore_ledger
from registry.mlflow.relocate import relocate


def run_restore(folder: Path, home: Path | None) -> str:
    """Restore into the home of this project, or into another folder.

    Says what was restored and which base models are missing. `OperationError` where the home is not
    empty, `DamagedFile` where the backup is not what was copied.
    """
    set_library_environment()
    project = find_project(Settings().home)
    # The project stays the same: its git refs get the backup's.
    if home is not None:
        project = Project(project.root, home.absolute())
    backup = restore(folder, project)
    head = "no ledger"
    if backup.ledger is not None:
        head = f"ledger up to entry {backup.ledger.generation}"
    summary = (
        f"Restored {folder} as of {backup.made_at:%Y-%m-%d %H:%M:%S %Z} into {project.home}: "
        f"{head}, {len(backup.files):,} files."
    )
    return "\n".join([summary, *missing_bases(backup)])


def restore(folder: Path, project: Project) -> Backup:
    """Verify a backup and put it where there is no home yet.

    A restore that was cut short leaves no home, and the next one begins again. `OperationError`
    where the home is not empty, `DamagedFile` where the backup is not what was copied.
    """
    # A link to another disk stays, and the folder that it leads to becomes the home.
    home = project.home.resolve()
    _check_empty(home)
    # Every byte is verified before the first one is written.
    backup = check_backup(folder)
    with appearing(home) as partial:
        _copy_home(backup, folder, partial)
        # MLflow's records name absolute paths of the home that was backed up.
        relocate(partial / "mlflow.db", Path(backup.mlflow_folder), home)
        if backup.ledger is not None:
            restore_ledger(folder / LEDGER, partial)
        _link_bases(backup, partial)
        if (folder / REFS).is_file():
            fetch_refs(project.root, folder / REFS)
    return backup


def missing_bases(backup: Backup) -> list[str]:
    """Give a sentence for each base model that was not copied and is not on this machine."""
    return [
        f"Bring the base model {base.id} (digest {base.digest[:12]}) back to {base.path}: "
        "it was not copied."
        for base in backup.bases
        if base.folder is None and not Path(base.path).is_dir()
    ]


def _check_empty(home: Path) -> None:
    if not home.exists():
        return
    if not home.is_dir() or any(home.iterdir()):
        raise OperationError(
            f"{home} is not empty. Move it away, or give an empty folder with --home: "
            "a restore replaces nothing."
        )


def _copy_home(backup: Backup, folder: Path, into: Path) -> None:
    prefix = f"{HOME}/"
    names = [name for name in backup.files if name.startswith(prefix)]
    with progress_bar("restoring", len(names)) as advance:
        for name in names:
            target = into / name.removeprefix(prefix)
            recorded = backup.files[name]
            _copy_file(folder / name, target, recorded)
            advance(1)


def _copy_file(source: Path, target: Path, recorded: CopiedFile) -> None:
    with explained(target):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest, _ = copy_bytes(source, target)
        target.chmod(recorded.mode)
    # The backup was verified before, and may have changed since then.
    if digest != recorded.sha256:
        raise OperationError(
            f"{source} changed while it was restored. "
            "Nothing was restored: use another backup."
        )


def _link_bases(backup: Backup, home: Path) -> None:
    """Link each base model by its digest: to its copy in the home, else to where it was before."""
    for base in backup.bases:
        link = home / "base-models" / base.digest
        with explained(link):
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(base.path if base.folder is None else base.folder)
