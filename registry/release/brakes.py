"""The brakes: going back, having the base answer, revoking, freezing. One entry in the ledger each; none needs MLflow or Prefect."""

import time
from collections.abc import Callable
from contextlib import suppress

from core.errors import ReleaseError, ServingError
from registry.ledger.entries import (
    BaseServed,
    Body,
    Frozen,
    ReleaseAborted,
    Revoked,
    RolledBack,
    Unfrozen,
    Waived,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, ModelState, RecordedRelease
from registry.release.context import Order, ReleaseContext, alarms, append
from registry.release.following import EndpointState


def roll_back(
    model: str, version: str | None, order: Order, context: ReleaseContext
) -> LedgerState:
    """Give full traffic back to what served before, or to a version that once served. Needs neither MLflow nor Prefect.

    While a release is on its way, going back is to abort it: what serves goes on.
    """
    why = context.ledger.remember(order.reason)

    def body(ledger_state: LedgerState) -> Body:
        here = ledger_state.model(model)
        serving = None if here.answering is None else here.answering.release.version
        if here.pending is not None and version in {None, serving}:
            return ReleaseAborted(
                begun=here.pending.begun,
                by=order.by,
                account=order.account,
                reason_sha256=why,
            )
        return RolledBack(
            model=model,
            to=_way_back(ledger_state, model, version),
            by=order.by,
            account=order.account,
            reason_sha256=why,
        )

    return _brake(context, model, body)


def serve_base(model: str, order: Order, context: ReleaseContext) -> LedgerState:
    """Have the base answer under the model's name."""
    why = context.ledger.remember(order.reason)

    def body(ledger_state: LedgerState) -> Body:
        if not ledger_state.model(model).once_served:
            raise ReleaseError(
                f"Nothing of {model} was ever released, so there is no base to serve. `assay preview --base` shows the base's answers."
            )
        return BaseServed(
            model=model, by=order.by, account=order.account, reason_sha256=why
        )

    return _brake(context, model, body)


def revoke(
    model: str,
    version: str,
    order: Order,
    context: ReleaseContext,
    *,
    is_registered: bool = False,
    adapter_sha256: str | None = None,
) -> LedgerState:
    """A version never serves again; where it serves now, what served before it takes over, or the base.

    `is_registered`: MLflow knows it, whatever the ledger knows of its model; `adapter_sha256`: what its package holds.
    """
    why = context.ledger.remember(order.reason)

    def body(ledger_state: LedgerState) -> Body:
        known = {
            *ledger_state.models,
            *(each.model for each in ledger_state.judged.values()),
        }
        if not is_registered and model not in known:
            raise ReleaseError(
                f"The ledger knows no model {model}, only {', '.join(sorted(known)) or 'none'}. Give its name with --model."
            )
        return Revoked(
            model=model,
            version=version,
            by=order.by,
            account=order.account,
            reason_sha256=why,
            adapter_sha256=adapter_sha256,
        )

    return _brake(context, model, body)


def freeze(order: Order, context: ReleaseContext) -> LedgerState:
    """No release begins, and what is on its way is aborted: the ledger itself refuses, whatever the endpoint does."""
    why = context.ledger.remember(order.reason)
    return _told(
        context,
        append(
            context.ledger,
            lambda _: Frozen(by=order.by, account=order.account, reason_sha256=why),
        ),
    )


def unfreeze(order: Order, context: ReleaseContext) -> LedgerState:
    """Releases may begin again."""
    why = context.ledger.remember(order.reason)
    return _told(
        context,
        append(
            context.ledger,
            lambda _: Unfrozen(by=order.by, account=order.account, reason_sha256=why),
        ),
    )


def _told(context: ReleaseContext, ledger_state: LedgerState) -> LedgerState:
    """Ring, where there is somebody to hear it."""
    with suppress(ServingError):
        context.endpoint.ring()
    return ledger_state


def waive(waived: Callable[[str], Waived], reason: str, ledger: Ledger) -> LedgerState:
    """Enter a waiver; `waived` makes it from the digest of its reason."""
    digest = ledger.remember(reason)
    return append(ledger, lambda _: waived(digest))


def _brake(
    context: ReleaseContext, model: str, body: Callable[[LedgerState], Body]
) -> LedgerState:
    """One entry and a ring; then what answers is looked at, so that nobody is told of a rollback that has not come about.

    With the endpoint out of reach, or with what is wanted not loaded, the entry stands and is obeyed as soon as it can be.
    """
    ledger_state = append(context.ledger, body)
    entered = f"It is in the ledger (entry {ledger_state.head.generation}) and will be obeyed, but not yet"
    end = time.monotonic() + context.patience.to_brake
    try:
        while not _is_obeyed(ledger_state, model, seen := context.endpoint.ring()):
            if time.monotonic() > end:
                raise ReleaseError(
                    f"{entered}: {_still(ledger_state, model, seen)}. `assay status` shows when it does."
                )
            time.sleep(context.patience.between_looks)
    except ServingError as error:
        raise ServingError(f"{entered}: {error}") from error
    return ledger_state


def _is_obeyed(ledger_state: LedgerState, model: str, seen: EndpointState) -> bool:
    """The endpoint has come this far or further, and what the ledger says answers."""
    head = seen.head
    if (
        head is None
        or head.ledger_id != ledger_state.head.ledger_id
        or head.generation < ledger_state.head.generation
    ):
        return False
    if head != ledger_state.head:
        return head.generation > ledger_state.head.generation
    here = ledger_state.model(model)
    route = seen.routes.get(model)
    if here.serves_base:
        return route is not None and route.serves_base
    wanted = None if here.current is None else here.current.release.fingerprint
    return (None if route is None or route.serves_base else route.fingerprint) == wanted


def _still(ledger_state: LedgerState, model: str, seen: EndpointState) -> str:
    if seen.head is None or seen.head.generation < ledger_state.head.generation:
        return f"the endpoint has not followed to there{alarms(seen)}"
    route = seen.routes.get(model)
    return f"{'nothing' if route is None else route.fingerprint} answers under {model} still{alarms(seen)}"


def what_served_before(here: ModelState) -> RecordedRelease | None:
    """What a rollback leads to; None where there is nothing."""
    return here.current if here.serves_base else here.before


def _way_back(ledger_state: LedgerState, model: str, version: str | None) -> int:
    here = ledger_state.model(model)
    if version is not None:
        fitting = [held for held in here.once_served if held.release.version == version]
        if not fitting:
            raise ReleaseError(
                f"Version {version} of {model} never served. `assay history` lists what did; `assay promote` releases one."
            )
        return fitting[-1].begun
    before = what_served_before(here)
    if not here.once_served:
        raise ReleaseError(
            f"Nothing of {model} was ever released: there is nothing to go back to. `assay promote` releases a version."
        )
    if before is None:
        raise ReleaseError(
            f"Nothing of {model} served before what serves now. `assay serve-base` has the base answer."
        )
    return before.begun
