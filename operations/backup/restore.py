"""`assay restore`: a backup into an empty home, verified before the first byte is written. The home appears whole or not at all."""

from pathlib import Path

from core.environment import set_library_environment
from core.errors import OperationError
from core.progress import progress_bar
from core.project import Project
from operations.backup.copying import appearing, copy_bytes, explained
from operations.backup.manifest import HOME, LEDGER, REFS, Backup, check_backup
from operations.run_refs import fetch_refs
from registry.ledger.audit import restore_ledger
from registry.mlflow.relocate import relocate


def run_restore(folder: Path, home: Path | None) -> str:
    """Restore into the home of this checkout, or into another folder; says what is there now, and what is to be brought."""
    set_library_environment()
    from core.project import find_project
    from core.settings import Settings

    project = find_project(Settings().home)
    project = project if home is None else Project(project.root, home.absolute())
    backup = restore(folder, project)
    head = (
        "no ledger"
        if backup.ledger is None
        else f"ledger up to entry {backup.ledger.generation}"
    )
    lines = [
        f"Restored {folder} as of {backup.made_at:%Y-%m-%d %H:%M:%S %Z} into {project.home}: {head}, {len(backup.files):,} files."
    ]
    return "\n".join([*lines, *missing_bases(backup)])


def restore(folder: Path, project: Project) -> Backup:
    """Verify the backup and put it where no home is. A restore that was cut short leaves no home, and the next one begins anew."""
    home = (
        project.home.resolve()
    )  # a link to another disk stays, and what it leads to becomes the home
    _check_empty(home)
    backup = check_backup(folder)
    with appearing(home) as partial:
        _copy(backup, folder, partial)
        relocate(partial / "mlflow.db", Path(backup.mlflow_folder), home)
        if backup.ledger is not None:
            restore_ledger(folder / LEDGER, partial)
        _link_bases(backup, partial)
        if (folder / REFS).is_file():
            fetch_refs(project.root, folder / REFS)
    return backup


def missing_bases(backup: Backup) -> list[str]:
    """What the backup only names: a sentence for each base model whose folder is not on this machine."""
    return [
        f"Bring the base model {each.id} (digest {each.digest[:12]}) back to {each.path}: it was not copied."
        for each in backup.bases
        if each.folder is None and not Path(each.path).is_dir()
    ]


def _check_empty(home: Path) -> None:
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise OperationError(
            f"{home} is not empty. Move it away, or give an empty folder with --home: a restore replaces nothing."
        )


def _copy(backup: Backup, folder: Path, into: Path) -> None:
    inside = {
        name: copied
        for name, copied in backup.files.items()
        if name.startswith(f"{HOME}/")
    }
    with progress_bar("restoring", len(inside)) as advance:
        for name, copied in inside.items():
            target = into / name.removeprefix(f"{HOME}/")
            with explained(target):
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                digest, _ = copy_bytes(folder / name, target)
                target.chmod(copied.mode)
            if digest != copied.sha256:
                raise OperationError(
                    f"{folder / name} changed while it was restored. Nothing was restored: use another backup."
                )
            advance(1)


def _link_bases(backup: Backup, home: Path) -> None:
    """A base model is found by its digest: in the home where it was copied, else where it lay before."""
    for each in backup.bases:
        link = home / "base-models" / each.digest
        with explained(link):
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(each.path if each.folder is None else each.folder)
