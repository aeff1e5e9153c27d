"""A finalist's version comes into the signed ledger: what it consists of, and who had it trained.

MLflow's record can be edited by whoever may write there. A version is judged for a release only as the bytes that
this entry names, and only with the author that it names.
"""

from pathlib import Path

from core.account import current_user, operating_system_account
from core.errors import RegistryError
from core.files import digest_of_files, folder_digests
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.verdict import Finalist
from registry.ledger.entries import Made, Registered
from registry.ledger.ledger import Ledger
from registry.mlflow.recorded import ModelVersion
from registry.mlflow.store import Store
from registry.release.context import append

_OF_THE_ATTEMPT = frozenset(
    {"lineage.json", "MODEL_CARD.md", "package.json", "dvc.lock"}
)
"""Files that name the workspace: another attempt at the same work writes them anew, and everything else the same."""


def enter_version(
    ledger: Ledger, store: Store, packages: Path, version: ModelVersion, own: Path
) -> None:
    """Enter the version that a run registered from its package `own`; one that is entered already stays as it is.

    `RegistryError` where MLflow's version is not what the run made: nothing is entered then.
    """
    package = _checked(store, packages, version, own)
    made = made_of(version, package)
    body = Registered(
        **made.model_dump(),
        by=current_user(),
        account=operating_system_account(),
        logical_run=version.logical_run,
    )
    known = ledger.state().registration(version.name, version.version)
    if known is None or known.made != made:
        append(ledger, lambda _: body)


def made_of(version: ModelVersion, package: Path) -> Made:
    """What a version consists of, read from its package, whose bytes were checked before."""
    scorecard = Scorecard.read(package / "scorecard.json")
    verdict = Finalist.read(package / "verdict.json")
    return Made(
        model=version.name,
        version=version.version,
        package_sha256=version.package_sha256,
        adapter_sha256=Adapter.read(package / "adapter.json").sha256,
        evidence_sha256=scorecard.content_sha256(),
        verdict_sha256=verdict.content_sha256(),
        policy_sha256=verdict.policy_sha256,
    )


def _checked(store: Store, packages: Path, version: ModelVersion, own: Path) -> Path:
    """The package of the version: the run's own, or that of an earlier attempt at the same work."""
    digests = folder_digests(own)
    if digest_of_files(digests) == version.package_sha256:
        return own
    earlier = store.fetch(version, packages / version.package_sha256)
    found = folder_digests(earlier)
    for name in sorted((digests.keys() | found.keys()) - _OF_THE_ATTEMPT):
        if digests.get(name) != found.get(name):
            raise RegistryError(
                f"Version {version.version} of {version.name} bears this run's tag, and its {name} is not what the run made. "
                "Find out who registered it and delete it in MLflow, then run the same command again."
            )
    return earlier
