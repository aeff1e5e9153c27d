"""`assay backup`: what cannot be made again, in one folder, consistent while everything runs.

What others remember of the ledger comes first, then ledger and MLflow's database of one moment, then the files that they name: those are
only ever added to, so that a later copy holds all that an earlier record names. A folder that has its name is whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.environment import set_library_environment
from core.errors import AssayError, OperationError
from core.files import digest_of_files, folder_digests
from core.locks import backup_lock, exclusive, in_use
from core.progress import progress_bar
from core.project import Project
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
from pipelines.stages.base_model import locate
from pipelines.values.base_manifest import BaseModelManifest
from registry.ledger.audit import export
from registry.ledger.entries import Release
from registry.ledger.ledger import read_ledger
from registry.ledger.state import LedgerState
from registry.mlflow.retained import database_file
from registry.mlflow.store import Store

_ATTEMPTS = 20
_REMEMBERED = ("endpoint/standing.json",)
_SMALL = ("passwords.json", "arrivals.json", "notices.jsonl", "schedules.json")


@dataclass(frozen=True)
class Source:
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
        """MLflow's SQLite file; its artifacts lie beside it."""
        found = database_file(self.store.uri)
        if found is None:
            raise OperationError(
                f"MLflow's records are at {self.store.address}, not in a SQLite file. Back that server up with its own tools, or unset"
                " MLFLOW_TRACKING_URI to back up the home's own database."
            )
        if not found.is_file():
            raise OperationError(
                f"There is no MLflow database {found}, so there is nothing to back up. `assay run` makes it."
            )
        return found


def run_backup(folder: Path, *, with_base_models: bool) -> str:
    """Back up the home of this checkout; says what was copied."""
    set_library_environment()
    from core.project import find_project
    from core.settings import Settings
    from registry.mlflow.home_store import open_store

    project = find_project(Settings().home)
    backup = back_up(
        Source(project, open_store(project), with_base_models), folder.absolute()
    )
    head = (
        "no ledger yet"
        if backup.ledger is None
        else f"ledger up to entry {backup.ledger.generation}"
    )
    lines = [
        f"Backed up to {folder}: {head}, {len(backup.files):,} files, {backup.bytes / 1e6:,.1f} MB. Its keys and passwords are secret."
    ]
    lines += [
        f"Not copied: base model {each.id} in {each.path}. --with-base-models does."
        for each in backup.bases
        if each.folder is None
    ]
    return "\n".join(lines)


def back_up(source: Source, folder: Path) -> Backup:
    """Make a backup in a folder that does not exist; where it cannot be whole and verified, there is none."""
    if folder.exists():
        raise OperationError(
            f"{folder} exists already. Give a folder that does not: a backup replaces nothing."
        )
    if folder.resolve().is_relative_to(source.home.resolve()):
        raise OperationError(
            f"{folder} lies in the home {source.home}, and would be lost with it. Give a folder elsewhere."
        )
    source.database  # noqa: B018 - said before anything is made
    with in_use(source.home), _one_at_a_time(source.home), appearing(folder) as partial:
        backup = _filled(source, partial)
        write_manifest(backup, partial)
        check_backup(partial)
    return backup


def _filled(source: Source, into: Path) -> Backup:
    with progress_bar("backing up", _file_count(source)) as advance:
        copies = Copies(into, lambda: advance(1))
        for name in _REMEMBERED:
            _copy_if_there(source.home, name, copies)
        copies.tree(source.home / "exports", f"{HOME}/exports")
        ledger_state = copy_records(source, copies)
        releases = () if ledger_state is None else _releases(ledger_state, source.home)
        packages = tuple(_package(source, release, copies) for release in releases)
        bases = _bases(source, releases, copies)
        copies.tree(
            source.database.parent / "mlflow-artifacts", f"{HOME}/mlflow-artifacts"
        )
        for name in _SMALL:
            _copy_if_there(source.home, name, copies)
        copies.tree(source.home / "base-manifests", f"{HOME}/base-manifests")
        copies.tree(source.home / "cache", f"{HOME}/cache")
        if bundle_refs(source.project.root, into / REFS):
            copies.made(REFS)
    return Backup(
        made_at=datetime.now(UTC),
        mlflow_folder=str(source.database.parent.resolve()),
        ledger=None if ledger_state is None else ledger_state.head,
        packages=packages,
        bases=bases,
        files=copies.files,
    )


def copy_records(source: Source, copies: Copies) -> LedgerState | None:
    """Ledger, keys and databases of one moment: a release that was recorded in between would be in one of them alone."""
    for _ in range(_ATTEMPTS):
        ledger_state = verified_state(source.home)
        if ledger_state is not None:
            export(read_ledger(source.home), copies.into / LEDGER, with_texts=True)
            copies.made(LEDGER)
        copies.forget(f"{HOME}/keys/")
        copies.tree(source.home / "keys", f"{HOME}/keys")
        copies.database(source.database, f"{HOME}/mlflow.db")
        if (source.home / "mlflow-auth.db").is_file():
            copies.database(source.home / "mlflow-auth.db", f"{HOME}/mlflow-auth.db")
        if verified_state(source.home) == ledger_state:
            return ledger_state
    raise OperationError(
        f"The ledger moved each of {_ATTEMPTS} times while MLflow's database was copied. Run the backup again after the release."
    )


def _releases(ledger_state: LedgerState, home: Path) -> tuple[Release, ...]:
    """Each release that may serve now or again, and the one whose base answers where none may."""
    found = {}
    for name, model in ledger_state.models.items():
        for held in (
            *model.once_served,
            *model.served,
            *((model.pending,) if model.pending else ()),
        ):
            names_the_base = (
                held in model.once_served[-1:]
                and (home / "packages" / held.release.package_sha256).is_dir()
            )
            if held.release.version not in model.revoked or names_the_base:
                found[name, held.release.version] = held.release
    return tuple(found.values())


def _package(source: Source, release: Release, copies: Copies) -> NamedPackage:
    """A release's package, whole: from the home, else from MLflow."""
    folder = source.home / "packages" / release.package_sha256
    try:
        if (
            not folder.is_dir()
            or digest_of_files(folder_digests(folder)) != release.package_sha256
        ):
            source.store.fetch(
                source.store.get_version(release.model, release.version), folder
            )
    except AssayError as error:
        raise OperationError(
            f"The package of version {release.version} of {release.model}, which the ledger names, is not whole ({error})"
            " No backup was made: bring the package back, or `assay revoke` the version."
        ) from error
    copies.tree(folder, f"{HOME}/packages/{release.package_sha256}")
    return NamedPackage(
        model=release.model, version=release.version, sha256=release.package_sha256
    )


def _bases(
    source: Source, releases: tuple[Release, ...], copies: Copies
) -> tuple[KeptBase, ...]:
    manifests = (
        BaseModelManifest.read(
            source.home / "packages" / each.package_sha256 / "base_model.json"
        )
        for each in releases
    )
    return tuple(
        _base(source, manifest, copies)
        for manifest in {manifest.digest: manifest for manifest in manifests}.values()
    )


def _base(source: Source, manifest: BaseModelManifest, copies: Copies) -> KeptBase:
    """A base model of the home's own is copied; one in a folder of the user's only if asked."""
    link = source.home / "base-models" / manifest.digest
    place = link.resolve()
    is_own = not place.is_relative_to(source.home.resolve())
    folder = (
        None
        if is_own and not source.with_base_models
        else f"own-{manifest.digest[:12]}"
        if is_own
        else place.name
    )
    if folder is not None:
        whole = locate(manifest, source.home)
        for name in manifest.files:
            copies.file(whole / name, f"{HOME}/base-models/{folder}/{name}")
    return KeptBase(
        digest=manifest.digest, id=manifest.id, path=str(place), folder=folder
    )


def _copy_if_there(home: Path, name: str, copies: Copies) -> None:
    if (home / name).is_file():
        copies.file(home / name, f"{HOME}/{name}")


def _file_count(source: Source) -> int:
    folders = ("exports", "keys", "base-manifests", "cache")
    own = sum(len(files_below(source.home / name)) for name in folders)
    return own + len(files_below(source.database.parent / "mlflow-artifacts"))


@contextmanager
def _one_at_a_time(home: Path) -> Iterator[None]:
    def busy() -> OperationError:
        return OperationError(
            f"Another backup of {home} goes on. Wait for it, or end it."
        )

    with exclusive(backup_lock(home), wait=0, busy=busy):
        yield
