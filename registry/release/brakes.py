"""The brakes: going back, having the base answer, revoking, freezing. One entry in the ledger each; none needs MLflow or Prefect."""

import time
from collections.abc import Callable
from contextlib import suppress

from core.errors import ReleaseError, ServingError
from registry.ledger.entries import BaseServed, Body, Frozen, ReleaseAborted, Revoked, RolledBack, Unfrozen, Waived
from registry.ledger.ledger import Ledger
from registry.ledger.state import Held, ModelStanding, Standing
from registry.release.context import Desk, Order, alarms, append
from registry.release.following import EndpointState


def roll_back(model: str, version: str | None, order: Order, desk: Desk) -> Standing:
    """Give full traffic back to what served before, or to a version that once served. Needs neither MLflow nor Prefect.

    While a release is on its way, going back is to abort it: what serves goes on.
    """
    why = desk.ledger.remember(order.reason)

    def body(standing: Standing) -> Body:
        here = standing.model(model)
        serving = None if here.answering is None else here.answering.release.version
        if here.pending is not None and version in {None, serving}:
            return ReleaseAborted(begun=here.pending.begun, by=order.by, account=order.account, reason_sha256=why)
        return RolledBack(model=model, to=_way_back(standing, model, version), by=order.by, account=order.account, reason_sha256=why)

    return _brake(desk, model, body)


def serve_base(model: str, order: Order, desk: Desk) -> Standing:
    """Have the base answer under the model's name."""
    why = desk.ledger.remember(order.reason)

    def body(standing: Standing) -> Body:
        if not standing.model(model).once_served:
            raise ReleaseError(
                f"Nothing of {model} was ever released, so there is no base to serve. `assay preview --base` shows the base's answers."
            )
        return BaseServed(model=model, by=order.by, account=order.account, reason_sha256=why)

    return _brake(desk, model, body)


def revoke(
    model: str, version: str, order: Order, desk: Desk, *, is_registered: bool = False, adapter_sha256: str | None = None
) -> Standing:
    """A version never serves again; where it serves now, what served before it takes over, or the base.

    `is_registered`: MLflow knows it, whatever the ledger knows of its model; `adapter_sha256`: what its package holds.
    """
    why = desk.ledger.remember(order.reason)

    def body(standing: Standing) -> Body:
        known = {*standing.models, *(each.model for each in standing.judged.values())}
        if not is_registered and model not in known:
            raise ReleaseError(f"The ledger knows no model {model}, only {', '.join(sorted(known)) or 'none'}. Give its name with --model.")
        return Revoked(model=model, version=version, by=order.by, account=order.account, reason_sha256=why, adapter_sha256=adapter_sha256)

    return _brake(desk, model, body)


def freeze(order: Order, desk: Desk) -> Standing:
    """No release begins, and what is on its way is aborted: the ledger itself refuses, whatever the endpoint does."""
    why = desk.ledger.remember(order.reason)
    return _told(desk, append(desk.ledger, lambda _: Frozen(by=order.by, account=order.account, reason_sha256=why)))


def unfreeze(order: Order, desk: Desk) -> Standing:
    """Releases may begin again."""
    why = desk.ledger.remember(order.reason)
    return _told(desk, append(desk.ledger, lambda _: Unfrozen(by=order.by, account=order.account, reason_sha256=why)))


def _told(desk: Desk, standing: Standing) -> Standing:
    """Ring, where there is somebody to hear it."""
    with suppress(ServingError):
        desk.endpoint.ring()
    return standing


def waive(waived: Callable[[str], Waived], reason: str, ledger: Ledger) -> Standing:
    """Enter a waiver; `waived` makes it from the digest of its reason."""
    digest = ledger.remember(reason)
    return append(ledger, lambda _: waived(digest))


def _brake(desk: Desk, model: str, body: Callable[[Standing], Body]) -> Standing:
    """One entry and a ring; then what answers is looked at, so that nobody is told of a rollback that has not come about.

    With the endpoint out of reach, or with what is wanted not loaded, the entry stands and is obeyed as soon as it can be.
    """
    standing = append(desk.ledger, body)
    entered = f"It is in the ledger (entry {standing.head.generation}) and will be obeyed, but not yet"
    end = time.monotonic() + desk.patience.to_brake
    try:
        while not _is_obeyed(standing, model, seen := desk.endpoint.ring()):
            if time.monotonic() > end:
                raise ReleaseError(f"{entered}: {_still(standing, model, seen)}. `assay status` shows when it does.")
            time.sleep(desk.patience.between_looks)
    except ServingError as error:
        raise ServingError(f"{entered}: {error}") from error
    return standing


def _is_obeyed(standing: Standing, model: str, seen: EndpointState) -> bool:
    """The endpoint has come this far or further, and what the ledger says answers."""
    head = seen.head
    if head is None or head.ledger_id != standing.head.ledger_id or head.generation < standing.head.generation:
        return False
    if head != standing.head:
        return head.generation > standing.head.generation
    here = standing.model(model)
    route = seen.routes.get(model)
    if here.serves_base:
        return route is not None and route.serves_base
    wanted = None if here.current is None else here.current.release.fingerprint
    return (None if route is None or route.serves_base else route.fingerprint) == wanted


def _still(standing: Standing, model: str, seen: EndpointState) -> str:
    if seen.head is None or seen.head.generation < standing.head.generation:
        return f"the endpoint has not followed to there{alarms(seen)}"
    route = seen.routes.get(model)
    return f"{'nothing' if route is None else route.fingerprint} answers under {model} still{alarms(seen)}"


def what_served_before(here: ModelStanding) -> Held | None:
    """What a rollback leads to; None where there is nothing."""
    return here.current if here.serves_base else here.before


def _way_back(standing: Standing, model: str, version: str | None) -> int:
    here = standing.model(model)
    if version is not None:
        fitting = [held for held in here.once_served if held.release.version == version]
        if not fitting:
            raise ReleaseError(f"Version {version} of {model} never served. `assay history` lists what did; `assay promote` releases one.")
        return fitting[-1].begun
    before = what_served_before(here)
    if not here.once_served:
        raise ReleaseError(f"Nothing of {model} was ever released: there is nothing to go back to. `assay promote` releases a version.")
    if before is None:
        raise ReleaseError(f"Nothing of {model} served before what serves now. `assay serve-base` has the base answer.")
    return before.begun
