"""`assay backup`: what cannot be made again, in one folder, consistent while everything runs.

What others remember of the ledger is copied first, then ledger and MLflow's database of one
moment, then the files that they name. Files are only ever added, so a later copy holds everything
that an earlier record names. A folder that has its name is complete.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.environment import set_library_environment
from core.errors import AssayError, OperationError
from core.locks import backup_lock, exclusive, share_home
from core.progress import progress_bar
from core.project import Project, find_project
from core.settings import Settings
from operations.backup.copying import Copies, appearing, files_below
from operations.backup.manifest import (
    HOME,
    LEDGER,
    REFS,
    Backup,
    KeptBase,
    NamedPackage,
    check_backup,
    write_manifest,
)
from operations.gc.referenced import verified_state
from operations.run_refs import bundle_refs
from pipelines.models.base_store import locate_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.reserve import SCORED_GROUPS
from registry.ledger.audit import export
from registry.ledger.entries import Release
from registry.ledger.ledger import read_ledger
from registry.ledger.state import LedgerState, ModelState, RecordedRelease
from registry.mlflow.retained import database_file
from registry.mlflow.store import Store
from registry.release.package_signature import SIGNATURE, digest_of_package

_ATTEMPTS = 20
# What the endpoint remembers of the ledger.
_REMEMBERED = ("endpoint/standing.json",)
# Files that change at any time, and that nothing else refers to.
_SMALL = (
    "passwords.json",
    "api_keys.json",
    "arrivals.json",
    "notices.jsonl",
    "schedules.json",
    "release_runs.json",
)
_MEGABYTE = 1e6


@dataclass(frozen=True)
class BackupSource:
    """What is backed up, and how much of it."""

    project: Project
    store: Store
    with_base_models: bool

    @property
    def home(self) -> Path:
        """The home."""
        return self.project.home

    @property
    def database(self) -> Path:
        """MLflow's SQLite file; its artifacts are beside it.

        `OperationError` where MLflow's records are elsewhere, or where there are none.
        """
        # None for a server: its database is behind it.
        path = database_file(self.store.uri)
        if path is None:
            raise OperationError(
                f"MLflow's records are at {self.store.address}, not in a SQLite file. Back that "
                "server up with its own tools, as `pg_dump`, and the home as files; or unset "
                "MLFLOW_TRACKING_URI to back up the home's own database."
            )
        if not path.is_file():
            raise OperationError(
                f"There is no MLflow database {path}, so there is nothing to back up. "
                "`assay run` makes it."
            )
        return path


def run_backup(folder: Path, *, with_base_models: bool) -> str:
    """Back up the home of this project, and say what was copied.

    `OperationError` where the folder cannot take a backup or the home cannot be copied completely.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from registry.mlflow.home_store import open_store

    project = find_project(Settings().home)
    source = BackupSource(project, open_store(project), with_base_models)
    backup = back_up(source, folder.absolute())
    head = "no ledger yet"
    if backup.ledger is not None:
        head = f"ledger up to entry {backup.ledger.generation}"
    summary = (
        f"Backed up to {folder}: {head}, {len(backup.files):,} files, "
        f"{backup.bytes / _MEGABYTE:,.1f} MB. Its keys and passwords are secret."
    )
    missing = [base for base in backup.bases if base.folder is None]
    remarks = [
        f"Not copied: base model {base.id} in {base.path}. --with-base-models does."
        for base in missing
    ]
    return "\n".join([summary, *remarks])


def back_up(source: BackupSource, folder: Path) -> Backup:
    """Make a backup in a folder that does not exist.

    `OperationError` where it cannot be complete and verified; then there is no folder.
    """
    if folder.exists():
        raise OperationError(
            f"{folder} exists already. Give a folder that does not: a backup replaces nothing."
        )
    if folder.resolve().is_relative_to(source.home.resolve()):
        raise OperationError(
            f"{folder} is in the home {source.home}, and would be lost with it. "
            "Give a folder elsewhere."
        )
    source.database  # noqa: B018 - its error is reported before anything is made
    with (
        share_home(source.home),
        _one_at_a_time(source.home),
        appearing(folder) as partial,
    ):
        backup = _fill(source, partial)
        write_manifest(backup, partial)
        # A backup is verified while there is still something to make another one from.
        check_backup(partial)
    return backup


def _fill(source: BackupSource, into: Path) -> Backup:
    home = source.home
    mlflow_folder = source.database.parent
    with progress_bar("backing up", _file_count(source)) as advance:
        copies = Copies(into, lambda: advance(1))
        # First: what others remember must not be newer than the ledger in the backup.
        for name in _REMEMBERED:
            _copy_if_there(home, name, copies)
        copies.tree(home / "exports", f"{HOME}/exports")
        ledger_state = copy_records(source, copies)
        releases = () if ledger_state is None else _releases(ledger_state, home)
        packages = tuple(_package(source, release, copies) for release in releases)
        bases = _bases(source, releases, copies)
        # Artifacts are only added, so all that the copied database names are there.
        copies.tree(mlflow_folder / "mlflow-artifacts", f"{HOME}/mlflow-artifacts")
        for name in _SMALL:
            _copy_if_there(home, name, copies)
        copies.tree(home / "base-manifests", f"{HOME}/base-manifests")
        copies.tree(home / SCORED_GROUPS, f"{HOME}/{SCORED_GROUPS}")
        copies.tree(home / "cache", f"{HOME}/cache")
        if bundle_refs(source.project.root, into / REFS):
            copies.record_written(REFS)
    return Backup(
        made_at=datetime.now(UTC),
        mlflow_folder=str(mlflow_folder.resolve()),
        ledger=None if ledger_state is None else ledger_state.head,
        packages=packages,
        bases=bases,
        files=copies.files,
    )


def copy_records(source: BackupSource, copies: Copies) -> LedgerState | None:
    """Copy ledger, keys and databases of one moment, and give the ledger's state.

    A release that was recorded in between would be in one of them alone, so they are copied until
    the ledger is the same before and after. `OperationError` where it moves every time.
    """
    for _ in range(_ATTEMPTS):
        ledger_state = verified_state(source.home)
        if ledger_state is not None:
            ledger = read_ledger(source.home)
            export(ledger, copies.into / LEDGER, with_texts=True)
            copies.record_written(LEDGER)
        # A key may have been replaced since the attempt before.
        copies.forget(f"{HOME}/keys/")
        copies.tree(source.home / "keys", f"{HOME}/keys")
        copies.database(source.database, f"{HOME}/mlflow.db")
        accounts = source.home / "mlflow-auth.db"
        if accounts.is_file():
            copies.database(accounts, f"{HOME}/mlflow-auth.db")
        if verified_state(source.home) == ledger_state:
            return ledger_state
    raise OperationError(
        f"The ledger moved each of {_ATTEMPTS} times while MLflow's database was copied. "
        "Run the backup again after the release."
    )


def _releases(ledger_state: LedgerState, home: Path) -> tuple[Release, ...]:
    """Give each release that may serve now or again.

    Where a model's last release is revoked, its package still names the base that answers instead.
    """
    releases: dict[tuple[str, str], Release] = {}
    for name, model in ledger_state.models.items():
        for recorded in _recorded_releases(model):
            release = recorded.release
            # Where every version is revoked the base answers, and only the last release names it.
            names_the_base = (
                recorded in model.once_served[-1:]
                and (home / "packages" / release.package_sha256).is_dir()
            )
            if release.version not in model.revoked or names_the_base:
                releases[name, release.version] = release
    return tuple(releases.values())


def _recorded_releases(model: ModelState) -> tuple[RecordedRelease, ...]:
    releases = [*model.once_served, *model.served]
    if model.pending:
        releases.append(model.pending)
    return tuple(releases)


def _package(source: BackupSource, release: Release, copies: Copies) -> NamedPackage:
    """Copy a release's package completely, from the home or else from MLflow."""
    folder = source.home / "packages" / release.package_sha256
    try:
        # A damaged copy in the home is repaired before it is backed up.
        if not _is_complete(folder, release):
            store = source.store
            version = store.get_version(release.model, release.version)
            store.fetch(version, folder)
    except AssayError as error:
        raise OperationError(
            f"The package of version {release.version} of {release.model}, which the ledger names, "
            f"is not whole ({error}) No backup was made: bring the package back, or `assay revoke` "
            "the version."
        ) from error
    copies.tree(folder, f"{HOME}/packages/{release.package_sha256}")
    return NamedPackage(
        model=release.model, version=release.version, sha256=release.package_sha256
    )


def _is_complete(folder: Path, release: Release) -> bool:
    if not folder.is_dir():
        return False
    signature = folder / SIGNATURE
    # Without it a restored home could not load the release.
    lacks_signature = not signature.is_file()
    if release.signed_by is not None and lacks_signature:
        return False
    return digest_of_package(folder) == release.package_sha256


def _bases(
    source: BackupSource, releases: tuple[Release, ...], copies: Copies
) -> tuple[KeptBase, ...]:
    """Record the base model of each release once, and copy those that are to be copied."""
    manifests: dict[str, BaseModelManifest] = {}
    for release in releases:
        package = source.home / "packages" / release.package_sha256
        manifest = BaseModelManifest.read(package / "base_model.json")
        # By its digest: releases share bases, and each has gigabytes.
        manifests[manifest.digest] = manifest
    return tuple(_base(source, manifest, copies) for manifest in manifests.values())


def _base(
    source: BackupSource, manifest: BaseModelManifest, copies: Copies
) -> KeptBase:
    """Copy a base model of the home; one in a folder of the user's is copied only on request."""
    link = source.home / "base-models" / manifest.digest
    place = link.resolve()
    folder: str | None = place.name
    # A user's folder may hold gigabytes that are kept elsewhere anyway.
    if not place.is_relative_to(source.home.resolve()):
        folder = f"own-{manifest.digest[:12]}" if source.with_base_models else None
    if folder is not None:
        verified_folder = locate_base_model(manifest, source.home)
        for name in manifest.files:
            copies.file(verified_folder / name, f"{HOME}/base-models/{folder}/{name}")
    return KeptBase(
        digest=manifest.digest, id=manifest.id, path=str(place), folder=folder
    )


def _copy_if_there(home: Path, name: str, copies: Copies) -> None:
    path = home / name
    if path.is_file():
        copies.file(path, f"{HOME}/{name}")


def _file_count(source: BackupSource) -> int:
    """Count the files for the progress bar; the packages are few."""
    names = ("exports", "keys", "base-manifests", SCORED_GROUPS, "cache")
    folders = [source.home / name for name in names]
    folders.append(source.database.parent / "mlflow-artifacts")
    return sum(len(files_below(folder)) for folder in folders)


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    def busy() -> OperationError:
        sentence = f"Another backup of {home} is running. Wait for it, or end it."
        return OperationError(sentence)

    with exclusive(backup_lock(home), wait=0, busy=busy):
        yield
