"""`assay approve` and `assay disapprove`: what an approver says of a version in a terminal."""

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.errors import AssayError
from core.project import Project
from operations.orders import current_ledger, current_project, make_order
from registry.ledger.state import LedgerState
from registry.release.approvals import Target, approve, describe_approvals, withdraw
from registry.release.people import read_people

if TYPE_CHECKING:
    from registry.ledger.ledger import Ledger


@dataclass(frozen=True)
class Approvals:
    """Every approval of a version that stands after an order, as one line."""

    target: Target
    generation: int
    text: str


def approve_version(model: str, version: str, reason: str) -> Approvals:
    """Enter an approval of whoever acts.

    `ReleaseError` without the role approver, for the author, and for a version that the ledger
    does not know; `ParameterError` without a reason; `LedgerError` where there is no ledger.
    """
    project, target = current_project(), Target(model, version)
    order = make_order(reason)
    people = read_people(project.root)
    ledger = _writable_ledger(project)
    ledger_state = approve(target, order, people, ledger)
    return _finish(project, target, ledger_state)


def disapprove_version(model: str, version: str, reason: str) -> Approvals:
    """Take back the approval of whoever acts; `ReleaseError` where there is none.

    `ParameterError` without a reason; `LedgerError` where there is no ledger.
    """
    project, target = current_project(), Target(model, version)
    order = make_order(reason)
    ledger = _writable_ledger(project)
    ledger_state = withdraw(target, order, ledger)
    return _finish(project, target, ledger_state)


def _writable_ledger(project: Project) -> "Ledger":
    from registry.ledger.ledger import open_ledger

    # An approval creates no ledger: a missing one was lost, or is in another place.
    current_ledger()
    return open_ledger(project.home)


def _finish(project: Project, target: Target, ledger_state: LedgerState) -> Approvals:
    text = describe_approvals(target, ledger_state)
    # The ledger counts; MLflow may be away.
    with suppress(AssayError):
        _show_on_page(project, target, text)
    return Approvals(
        target,
        ledger_state.head.generation,
        text,
    )


def _show_on_page(project: Project, target: Target, text: str) -> None:
    set_library_environment()
    from registry.mlflow.approving import APPROVALS
    from registry.mlflow.home_store import open_store

    store = open_store(project)
    page = store.known(target.model, target.version)
    if page is not None:
        store.annotate(page, {APPROVALS: text})
