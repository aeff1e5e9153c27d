"""The version that `assay review` is about: its records, its package here, and who acts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import ReleaseError
from core.locks import share_home
from core.project import Project
from operations.identity import Identity, verified_identity
from operations.orders import current_project
from registry.release.people import read_people

if TYPE_CHECKING:
    from registry.ledger.ledger import Ledger
    from registry.mlflow.store import Store
    from registry.release.rating import RatedVersion


@dataclass(frozen=True)
class ReviewedVersion:
    """The version, where its records are, and who acts."""

    project: Project
    store: "Store"
    ledger: "Ledger"
    version: "RatedVersion"
    identity: Identity


@contextmanager
def reviewed_version(model: str, version: str) -> Iterator[ReviewedVersion]:
    """Fetch it, and keep its package for as long as the context lasts.

    `ReleaseError` where the ledger does not know these bytes of it.
    """
    from flows.run.attempt import fetch_package_of
    from flows.run.model_files import policy_of
    from operations.orders import current_ledger
    from pipelines.gates.policy import load_policy
    from registry.ledger.ledger import open_ledger
    from registry.mlflow.home_store import open_store
    from registry.release.rating import RatedVersion

    project = current_project()
    # Asked first: nothing is fetched for a login that holds no more.
    identity = verified_identity(project)
    # A review creates no ledger: a missing one was lost, or is in another place.
    current_ledger()
    ledger, store = open_ledger(project.home), open_store(project)
    registered = store.get_version(model, version)
    origin = ledger.state().registration(model, registered.version)
    # A number alone is no identity: MLflow gives numbers out again where it was lost.
    if origin is None or origin.made.package_sha256 != registered.package_sha256:
        raise ReleaseError(
            f"The ledger does not know these bytes of version {version} of {model}: "
            "train it again, or enter it with `assay adopt`."
        )
    # The package must not be cleared away while it is read.
    with share_home(project.home):
        rated = RatedVersion(
            origin=origin,
            package=fetch_package_of(store, registered, project.home),
            people=read_people(project.root),
            policy=load_policy(policy_of(project.root, model)),
        )
        yield ReviewedVersion(
            project,
            store,
            ledger,
            rated,
            identity,
        )
