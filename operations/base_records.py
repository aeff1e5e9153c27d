"""Which base each version was trained on, from every record that says so.

ledger    releases hold the base's digest                 nobody can edit it
packages  adapter, base and comparators, on this machine  signed with the version
MLflow    tags of version pages                           many people can edit them
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import AssayError, DamagedFile, RegistryError
from core.files import digest_of_files
from core.project import Project
from pipelines.models.base_files import digest_model_files
from pipelines.values.champion import ChampionInput
from pipelines.values.evidence import Adapter
from registry.ledger.ledger import read_ledger, was_ever_opened
from registry.ledger.state import LedgerState, ModelState
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import ANCHOR, CHALLENGER, CHAMPION, PACKAGE, RELEASE
from registry.mlflow.retained import is_missing
from registry.mlflow.store import Store

BASE_DIGEST, BASE_ID = "assay.base_digest", "assay.base_id"
_DIGEST = re.compile("[0-9a-f]{64}")
VersionKey = tuple[str, str]
"""A model's name, and a version's number."""


@dataclass
class BaseRecords:
    """What is known of bases; each version may have several digests where records disagree."""

    names: dict[str, set[str]] = field(default_factory=dict)
    """By digest: identifiers and revisions under which people know the base."""
    digests: dict[VersionKey, set[str]] = field(default_factory=dict)
    packages: dict[VersionKey, str] = field(default_factory=dict)
    """By version: the digest of its package."""
    compared: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By package: the system that it was compared with, and that one's base."""
    ledger_state: LedgerState | None = None
    store: Store | None = None
    notes: list[str] = field(default_factory=list)
    """What could not be asked, so that something may be missing."""

    def add(
        self,
        version: VersionKey,
        digest: str,
    ) -> None:
        """A record says that a version hangs on a base."""
        self.digests.setdefault(version, set()).add(digest)
        self.names.setdefault(digest, set())

    def model(self, name: str) -> ModelState:
        """What the ledger says of a model; nothing where there is no ledger."""
        state = self.ledger_state
        if state is None:
            return ModelState()
        return state.model(name)

    def name(self, digest: str, *names: str) -> None:
        """A base is known under these names."""
        self.names.setdefault(digest, set()).update(names)


def collect_base_records(project: Project) -> BaseRecords:
    """Read ledger, MLflow and packages; what cannot be read becomes a note."""
    records = BaseRecords()
    _read_ledger(project, records)
    _read_mlflow(project, records)
    _read_packages(project.home, records)
    return records


def _read_ledger(
    project: Project,
    records: BaseRecords,
) -> None:
    if not was_ever_opened(project.home):
        records.notes.append("There is no ledger yet: nothing was ever released.")
        return
    # Not caught: without a whole ledger nobody can say what serves.
    state = read_ledger(project.home).state()
    records.ledger_state = state
    for registration in state.registrations.values():
        made = registration.made
        records.packages[made.model, made.version] = made.package_sha256
    for name, model in state.models.items():
        # Not only what serves: a rollback may lead to any of them.
        releases = (*model.once_served, *model.served)
        if model.pending is not None:
            releases = (*releases, model.pending)
        for recorded in releases:
            release = recorded.release
            version = (name, release.version)
            records.add(version, release.spec.base_digest)
            # A registration knows it better: it was entered when the package was made.
            records.packages.setdefault(version, release.package_sha256)


def _read_mlflow(
    project: Project,
    records: BaseRecords,
) -> None:
    try:
        store = open_store(project)
        # MLflow's client would make an empty database.
        if is_missing(store.uri):
            records.notes.append("MLflow has no records yet.")
            return
        digests = store.pages_with(BASE_DIGEST)
        names = store.pages_with(BASE_ID)
        packages = store.pages_with(PACKAGE)
    except RegistryError as error:
        records.notes.append(
            f"MLflow was not asked, so that versions may be missing: {error}"
        )
        return
    records.store = store
    for page, package_sha256 in packages.items():
        # It becomes part of a path, and many people can edit a page.
        if _DIGEST.fullmatch(package_sha256):
            records.packages.setdefault(_version_of(page), package_sha256)
    for page, digest in digests.items():
        if not _DIGEST.fullmatch(digest):
            records.notes.append(f"The page of {page} names no base: {digest[:80]!a}.")
            continue
        records.add(_version_of(page), digest)
        if page in names:
            name = names[page]
            # Anybody who may edit a page writes it, and a terminal must not obey it.
            records.name(digest, name if name.isprintable() else ascii(name))


def _version_of(page: str) -> VersionKey:
    # From the right: a version's number has no space in it.
    name, _, number = page.rpartition(" ")
    return name, number


def _read_packages(
    home: Path,
    records: BaseRecords,
) -> None:
    # Two versions may share a package, which is read once for both.
    versions: dict[str, list[VersionKey]] = {}
    for version, package_sha256 in records.packages.items():
        versions.setdefault(package_sha256, []).append(version)
    for package_sha256, holders in versions.items():
        packages = home / "packages"
        folder = packages / package_sha256
        # Retention may have removed it; the other records count all the same.
        if not folder.is_dir():
            continue
        try:
            adapter = Adapter.read(folder / "adapter.json")
        except DamagedFile as error:
            records.notes.append(f"A package was not read: {error}")
            continue
        records.name(
            adapter.base_digest,
            adapter.base_id,
            adapter.base_revision,
        )
        for version in holders:
            records.add(version, adapter.base_digest)
        compared = _compared_in(folder, records)
        records.compared[package_sha256] = list(compared)


def _compared_in(
    folder: Path,
    records: BaseRecords,
) -> Iterator[tuple[str, str]]:
    """What a version's evidence was compared with, and on which base that was."""
    with suppress(DamagedFile):
        comparators = ChampionInput.read(folder / "champion.json").comparators()
        for system, comparator in comparators:
            adapter = comparator.adapter
            records.name(
                adapter.base_digest,
                adapter.base_id,
                adapter.base_revision,
            )
            yield f"{system} {comparator.version}", adapter.base_digest


def digest_of_folder(folder: Path) -> str:
    """The digest of a base model's folder; errors as of `digest_model_files`."""
    return digest_of_files(digest_model_files(folder))


def aliases_of(
    records: BaseRecords,
    versions: set[VersionKey],
) -> dict[VersionKey, tuple[str, ...]]:
    """The aliases that name each version in MLflow; none where it was not asked."""
    found: dict[VersionKey, list[str]] = {}
    # Why it was not asked is among the notes already.
    if records.store is None:
        return {}
    for alias in (RELEASE, CHAMPION, CHALLENGER, ANCHOR):
        try:
            holders = records.store.holders(alias)
        except AssayError as error:
            records.notes.append(f"Aliases were not asked: {error}")
            return {}
        for name, number in holders.items():
            if (name, number) in versions:
                found.setdefault((name, number), []).append(alias)
    return {version: tuple(aliases) for version, aliases in found.items()}
