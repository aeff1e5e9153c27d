"""What the release manager and on-call order: who ordered it and why goes on record with it.

Each function carries one order out and returns how things are afterwards; `cli` puts that into
words. Revocations are in `operations/revoking.py`, waivers in `operations/waiving.py`, approvals in
`operations/approving.py`; who acts is found in `operations/identity.py`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.errors import ParameterError, ReleaseError
from core.project import Project, find_project
from core.settings import Settings
from operations.identity import Identity, identity_for_brakes, verified_identity
from registry.ledger.state import LedgerState
from registry.release.brakes import freeze, roll_back, serve_base, unfreeze
from registry.release.context import ChangeRequest, ReleaseContext
from registry.release.people import read_people
from registry.release.skipping import skip_canary

if TYPE_CHECKING:
    from flows.promote import Promotion, Repaired
    from registry.ledger.ledger import Ledger
    from registry.ledger.state import Registration

# Letters: a reason is a sentence, and every export with reasons carries it.
_LONGEST_REASON = 2000


@dataclass(frozen=True)
class ServedModel:
    """A model and the ledger's state after an order about it."""

    model: str
    ledger_state: LedgerState


@dataclass(frozen=True)
class ModelOrder:
    """An order about one model, and what it is carried out with."""

    model: str
    order: ChangeRequest
    context: ReleaseContext


def promote_version(model: str, version: str, reason: str) -> "Promotion | Repaired":
    """Judge a version and, where it passes, release it.

    A version that serves already, with a damaged package, gets its package fetched again.
    `ParameterError` without a reason; `AssayError` of many kinds where it cannot be judged or
    released.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from flows.promote import promote

    project, order = current_project(), make_order(reason)
    check_may_promote(project, order)
    # Imported above only after the libraries' settings are in the environment.
    outcome = promote(project, model, version, order)
    attach_report(outcome)
    return outcome


def check_may_promote(project: Project, order: ChangeRequest) -> None:
    """`ReleaseError` without the role release_manager; `ParameterError` where nobody is known."""
    people = read_people(project.root)
    if people.has_role(order.by, order.account, "release_manager"):
        return
    # A refusal that sends nobody anywhere would be the end of the road.
    names = ", ".join(people.list_with_role("release_manager")) or "nobody yet"
    raise ReleaseError(
        f"{order.by} ({order.account}) does not have the role release_manager, "
        f"which people.yaml gives to: {names}. Ask one of them."
    )


def attach_report(outcome: object) -> None:
    """Attach the report of a version to its run, where a promotion has just judged it."""
    from flows.promote import Promotion
    from operations.release_report.publish import attach_to_promoted

    if isinstance(outcome, Promotion):
        attach_to_promoted(outcome)


def adopt_version(model: str, version: str, reason: str) -> "Registration":
    """Enter a version that no run entered; from then on it may be judged, on its own evidence.

    `ParameterError` without a reason; `ReleaseError` where the ledger holds the version already.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from operations.adopt import adopt

    return adopt(current_project(), model, version, make_order(reason))


def roll_back_model(model: str | None, reason: str, version: str | None) -> ServedModel:
    """Give full traffic back to an earlier version; `version` None is the one that served before.

    `ParameterError` where the model is not certain or there is no reason; `ReleaseError` where
    there is nothing to go back to.
    """
    ordered = order_about(model, reason)
    name = ordered.model
    ledger_state = roll_back(name, version, ordered.order, ordered.context)
    return ServedModel(name, ledger_state)


def serve_base_of(model: str | None, reason: str) -> ServedModel:
    """Have the base model answer under the model's name.

    `ParameterError` where the model is not certain or there is no reason.
    """
    ordered = order_about(model, reason)
    name = ordered.model
    ledger_state = serve_base(name, ordered.order, ordered.context)
    return ServedModel(name, ledger_state)


def skip_canary_of(model: str | None, reason: str) -> ServedModel:
    """Have a release on its way switch without waiting for its canary.

    `ParameterError` where the model is not certain or there is no reason; `ReleaseError` without
    the role release_manager; errors of `skip_canary` where the person who skips began the release.
    """
    # No brake: what it lets happen is a release.
    project, order = current_project(), make_order(reason)
    check_may_promote(project, order)
    context = _open_context()
    name = model or _only_model(context.ledger.state())
    people = read_people(project.root)
    ledger_state = skip_canary(
        name,
        order,
        context,
        people,
    )
    return ServedModel(name, ledger_state)


def freeze_releases(reason: str) -> LedgerState:
    """Let no release begin; `ParameterError` without a reason."""
    order, context = _order_with_context(reason)
    return freeze(order, context)


def unfreeze_releases(reason: str) -> LedgerState:
    """Let releases begin again.

    `ParameterError` without a reason; `ReleaseError` without the role release_manager.
    """
    # No brake: who opens the way again is verified.
    order = make_order(reason)
    check_may_promote(current_project(), order)
    return unfreeze(order, _open_context())


def order_about(model: str | None, reason: str) -> ModelOrder:
    """Prepare an order about a model; None is the only model that the ledger knows.

    `ParameterError` where there is no reason, or where the ledger knows no model or several.
    """
    order, context = _order_with_context(reason)
    if not model:
        ledger_state = context.ledger.state()
        # Only where there is no doubt: the order changes what users are answered by.
        model = _only_model(ledger_state)
    return ModelOrder(model, order, context)


def make_order(reason: str) -> ChangeRequest:
    """Sign a reason with the name and the account that act; `ParameterError` where it is empty.

    `OperationError` where a login of MLflow's holds no more.
    """
    return _sign(reason, verified_identity(current_project()))


def make_brake_order(reason: str) -> ChangeRequest:
    """Sign a reason as `make_order` does, whatever is broken: nothing keeps anybody from a brake.

    `ParameterError` where the reason is empty.
    """
    return _sign(reason, identity_for_brakes(current_project()))


def _sign(reason: str, identity: Identity) -> ChangeRequest:
    return ChangeRequest(
        by=identity.by,
        reason=check_reason(reason),
        account=identity.account,
    )


def check_reason(reason: str) -> str:
    """Give the reason as it goes on record; `ParameterError` where it is empty."""
    if not reason.strip():
        raise ParameterError(
            "--reason is empty. Say why in a sentence: it goes on record."
        )
    return reason.strip()[:_LONGEST_REASON]


def current_ledger() -> "Ledger":
    """Open the ledger of this project's home; `LedgerError` where there is none."""
    from registry.ledger.ledger import read_ledger

    return read_ledger(current_project().home)


def current_project() -> Project:
    """Find the project that the command acts on; `WorkspaceError` where there is none."""
    return find_project(Settings().home)


def _order_with_context(reason: str) -> tuple[ChangeRequest, ReleaseContext]:
    """Prepare an order without asking MLflow or Prefect: a brake must work without either."""
    order = make_brake_order(reason)
    return order, _open_context()


def _open_context() -> ReleaseContext:
    """Ledger and endpoint; `LedgerError` where there is no ledger."""
    # Neither of these imports mlflow or prefect.
    from registry.ledger.ledger import open_ledger
    from serving.replicated import following_endpoint

    home = current_project().home
    # No order creates a ledger: a missing one was lost, or is in another place.
    current_ledger()
    return ReleaseContext(open_ledger(home), following_endpoint(home))


def _only_model(ledger_state: LedgerState) -> str:
    """Give the model that an order without a name is about: a brake guesses nothing."""
    # A model that was judged and never released is known, too.
    judged_models = {judged.model for judged in ledger_state.judged.values()}
    models = sorted({*ledger_state.models, *judged_models})
    if len(models) == 1:
        return models[0]
    if not models:
        raise ParameterError(
            "The ledger knows no model yet: nothing was ever judged for a release. "
            "Name one with --model."
        )
    raise ParameterError(
        f"The ledger knows {len(models)} models: {', '.join(models)}. "
        "Name the one that is meant with --model."
    )
