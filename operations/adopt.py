"""`assay adopt`: a person answers for a version that no run entered into the ledger.

Such are versions that somebody registered by hand, and versions of an Assay whose runs entered
nothing. Nothing is judged here: an adopted version is judged on its evidence like any other when
it is promoted.
"""

from core.errors import ReleaseError
from core.project import Project
from flows.run.attempt import fetch_package_of
from flows.run.registration import contents_of_version
from flows.signing import ensure_signed
from registry.ledger.entries import Adopted, Body
from registry.ledger.ledger import open_ledger
from registry.ledger.state import LedgerState, Registration
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import PACKAGE
from registry.release.context import ChangeRequest, append


def adopt(
    project: Project, model: str, version: str, order: ChangeRequest
) -> Registration:
    """Enter a version under the name of the person who answers for it.

    `ReleaseError` where the ledger holds the version already, or it is no package of Assay's.
    """
    store, ledger = open_store(project), open_ledger(project.home)
    registered = store.get_version(model, version)
    if not registered.package_sha256:
        # Its digest would be that of nothing, and no evidence would lie in it.
        raise ReleaseError(
            f"Version {registered.version} of {model} holds no package of Assay: its page lacks "
            f"the tag {PACKAGE}, so there is nothing to judge it by. Train it with `assay run`."
        )
    package = fetch_package_of(store, registered, project.home)
    made = contents_of_version(registered, package)
    # The person answers for these bytes, and the signature says which they are.
    ensure_signed(
        ledger,
        store,
        registered,
        package,
    )
    reason_sha256 = ledger.remember(order.reason)
    number = registered.version

    def adopted(ledger_state: LedgerState) -> Body:
        known = ledger_state.registration(model, number)
        # A version number that was registered again, with another package, may be adopted.
        if known is not None and known.made.package_sha256 == made.package_sha256:
            raise ReleaseError(
                f"Version {number} of {model} is in the ledger already (entry {known.generation}). "
                "`assay promote` judges it."
            )
        return Adopted(
            **made.model_dump(),
            by=order.by,
            account=order.account,
            reason_sha256=reason_sha256,
        )

    registration = append(ledger, adopted).registration(model, number)
    if registration is None:
        raise ReleaseError(
            f"Version {number} of {model} was not entered. "
            "`assay history` says what was; try again."
        )
    return registration
