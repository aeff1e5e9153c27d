"""Enter a finalist's version in the signed ledger: what it consists of, and who had it trained.

Whoever may write to MLflow can edit its record. A version is therefore judged for a release only
as the bytes that its entry names, and only with the author that the entry names.
"""

from pathlib import Path

from core.account import login_name, operating_system_account
from core.errors import RegistryError
from core.files import digest_of_files
from flows.signing import ensure_signed
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.verdict import Finalist
from registry.ledger.entries import Registered, VersionContents
from registry.ledger.ledger import Ledger
from registry.mlflow.recorded import ModelVersion
from registry.mlflow.store import Store
from registry.release.context import append
from registry.release.package_signature import package_digests

_DIFFER_BY_ATTEMPT = frozenset(
    {"lineage.json", "MODEL_CARD.md", "package.json", "dvc.lock"}
)
"""Files that name the workspace. Two attempts at the same work differ in these and in no other."""


def enter_version(
    ledger: Ledger, store: Store, packages: Path, version: ModelVersion, own: Path
) -> None:
    """Enter the version that a run registered from its package `own`, unless it is entered already.

    `RegistryError` where MLflow's version is not what the run made: nothing is entered then.
    """
    # MLflow's digest is believed only after the bytes were compared.
    package = _checked_package(
        store,
        packages,
        version,
        own,
    )
    # Before the entry: what the ledger holds is signed, whenever this process is killed.
    ensure_signed(
        ledger,
        store,
        version,
        package,
    )
    contents = contents_of_version(version, package)
    entry = Registered(
        **contents.model_dump(),
        by=login_name(),
        account=operating_system_account(),
        logical_run=version.logical_run,
    )
    # A run that was killed after its entry must not enter the version twice.
    registration = ledger.state().registration(version.name, version.version)
    if registration is None or registration.made != contents:
        append(ledger, lambda _: entry)


def contents_of_version(version: ModelVersion, package: Path) -> VersionContents:
    """What a version consists of, read from its package, whose bytes were checked before."""
    scorecard = Scorecard.read(package / "scorecard.json")
    verdict = Finalist.read(package / "verdict.json")
    return VersionContents(
        model=version.name,
        version=version.version,
        package_sha256=version.package_sha256,
        adapter_sha256=Adapter.read(package / "adapter.json").sha256,
        evidence_sha256=scorecard.content_sha256(),
        verdict_sha256=verdict.content_sha256(),
        policy_sha256=verdict.policy_sha256,
    )


def _checked_package(
    store: Store, packages: Path, version: ModelVersion, own: Path
) -> Path:
    """The package of the version: the run's own, or that of an earlier attempt at the same work."""
    own_digests = package_digests(own)
    if digest_of_files(own_digests) == version.package_sha256:
        return own
    # The version is of an attempt that was killed: every other file must be the same.
    earlier = store.fetch(version, packages / version.package_sha256)
    earlier_digests = package_digests(earlier)
    names = own_digests.keys() | earlier_digests.keys()
    for name in sorted(names - _DIFFER_BY_ATTEMPT):
        made, registered = own_digests.get(name), earlier_digests.get(name)
        if made != registered:
            raise RegistryError(
                f"Version {version.version} of {version.name} bears this run's tag, and its "
                f"{name} is not what the run made. Find out who registered it and delete it in "
                "MLflow, then run the same command again."
            )
    return earlier
