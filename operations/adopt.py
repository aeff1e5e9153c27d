"""`assay adopt`: a person answers for a version that no run entered into the ledger.

Versions from before runs entered theirs are of this kind, and versions that somebody registered by hand. Nothing is
judged here: what is adopted is judged on its evidence like any other version when it is promoted.
"""

from core.errors import ReleaseError
from core.project import Project
from flows.run.registration import contents_of_version
from registry.ledger.entries import Adopted, Body
from registry.ledger.ledger import open_ledger
from registry.ledger.state import LedgerState, Registration
from registry.mlflow.home_store import open_store
from registry.release.context import Order, append


def adopt(project: Project, model: str, version: str, order: Order) -> Registration:
    """Enter the version under the name of whoever answers for it; one that is entered already is `ReleaseError`."""
    store, ledger = open_store(project), open_ledger(project.home)
    found = store.get_version(model, version)
    package = store.fetch(found, project.home / "packages" / found.package_sha256)
    made, why = contents_of_version(found, package), ledger.remember(order.reason)

    def body(ledger_state: LedgerState) -> Body:
        known = ledger_state.registration(model, found.version)
        if known is not None and known.made.package_sha256 == made.package_sha256:
            raise ReleaseError(
                f"Version {found.version} of {model} is in the ledger already (entry {known.generation}). `assay promote` judges it."
            )
        return Adopted(
            **made.model_dump(), by=order.by, account=order.account, reason_sha256=why
        )

    entered = append(ledger, body).registration(model, found.version)
    if entered is None:
        raise ReleaseError(
            f"Version {found.version} of {model} was not entered. `assay history` says what was; try again."
        )
    return entered
