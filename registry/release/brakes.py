"""The brakes: roll back, serve the base, revoke, freeze, waive.

Each is one entry in the ledger. None needs MLflow or Prefect.
"""

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
from registry.release.context import (
    ChangeRequest,
    Patience,
    ReleaseContext,
    append,
    attribute,
    describe_alarms,
)
from registry.release.following import EndpointState, Route
from registry.release.wishing import is_of


def roll_back(
    model: str,
    version: str | None,
    request: ChangeRequest,
    context: ReleaseContext,
    package_sha256: str | None = None,
) -> LedgerState:
    """Give full traffic back to what served before, or to a version that once served.

    `package_sha256` names the bytes, since MLflow gives out a number again where it was lost;
    without it the last release of the number counts.
    While a release is in progress, rolling back aborts it, and the serving version stays.
    `ReleaseError` where there is nothing to roll back to, or the endpoint has not obeyed yet;
    `ServingError` where it is unreachable.
    """
    # Once, outside of `make_entry`: that may be called several times.
    attribution = attribute(request, context.ledger)

    def make_entry(ledger_state: LedgerState) -> Body:
        model_state = ledger_state.model(model)
        pending = model_state.pending
        # The version that serves already is reached by stopping what would replace it.
        if pending is not None and _stays(model_state, version, package_sha256):
            return ReleaseAborted(
                begun=pending.begun, wished=request.wished, **attribution
            )
        target = _rollback_generation(model_state, model, version, package_sha256)
        return RolledBack(model=model, to=target, wished=request.wished, **attribution)

    return _brake(context, model, make_entry)


def _stays(
    model_state: ModelState, version: str | None, package_sha256: str | None
) -> bool:
    """Whether what answers is what somebody wants back, or just what is there."""
    if version is None:
        return True
    answering = model_state.answering
    return answering is not None and is_of(answering, version, package_sha256)


def serve_base(
    model: str, request: ChangeRequest, context: ReleaseContext
) -> LedgerState:
    """Have the base answer under the model's name.

    `ReleaseError` where no version of the model was ever released, so that no base is known,
    or the endpoint has not obeyed yet; `ServingError` where it is unreachable.
    """
    attribution = attribute(request, context.ledger)

    def make_entry(ledger_state: LedgerState) -> Body:
        if not ledger_state.model(model).once_served:
            raise ReleaseError(
                f"Nothing of {model} was ever released, so there is no base to serve. "
                "`assay preview --base` shows the base's answers."
            )
        return BaseServed(model=model, **attribution)

    return _brake(context, model, make_entry)


def revoke(
    model: str,
    version: str,
    request: ChangeRequest,
    context: ReleaseContext,
    *,
    is_registered: bool = False,
    adapter_sha256: str | None = None,
) -> LedgerState:
    """Bar a version from serving for good; what served before it takes over, or the base.

    `is_registered`: MLflow knows the version, even if the ledger does not know its model.
    `adapter_sha256`: the adapter in its package, which is barred under every other name, too.
    `ReleaseError` where nobody knows the model, or the endpoint has not obeyed yet;
    `ServingError` where it is unreachable.
    """
    attribution = attribute(request, context.ledger)

    def make_entry(ledger_state: LedgerState) -> Body:
        if not is_registered:
            _check_model_is_known(ledger_state, model)
        return Revoked(
            model=model,
            version=version,
            adapter_sha256=adapter_sha256,
            **attribution,
        )

    return _brake(context, model, make_entry)


def _check_model_is_known(ledger_state: LedgerState, model: str) -> None:
    judged = (entry.model for entry in ledger_state.judged.values())
    models = {*ledger_state.models, *judged}
    # A mistyped name would be revoked without anybody noticing, while the version serves.
    if model not in models:
        names = ", ".join(sorted(models)) or "none"
        raise ReleaseError(
            f"The ledger knows no model {model}, only {names}. Give its name with --model."
        )


def freeze(request: ChangeRequest, context: ReleaseContext) -> LedgerState:
    """Have no release begin, and abort what is in progress.

    The ledger itself refuses from then on, whatever the endpoint does.
    """
    body = Frozen(**attribute(request, context.ledger))
    ledger_state = append(context.ledger, lambda _: body)
    _ring(context)
    return ledger_state


def unfreeze(request: ChangeRequest, context: ReleaseContext) -> LedgerState:
    """Allow releases again."""
    body = Unfrozen(**attribute(request, context.ledger))
    ledger_state = append(context.ledger, lambda _: body)
    _ring(context)
    return ledger_state


def _ring(context: ReleaseContext) -> None:
    # Ledger and endpoint agree without the ring, too: an unreachable endpoint is no failure.
    with suppress(ServingError):
        context.endpoint.ring()


def waive(
    make_waiver: Callable[[str], Waived], reason: str, ledger: Ledger
) -> LedgerState:
    """Enter the waiver that `make_waiver` makes from the digest of its reason."""
    digest = ledger.remember(reason)
    return append(ledger, lambda _: make_waiver(digest))


def _brake(
    context: ReleaseContext, model: str, make_entry: Callable[[LedgerState], Body]
) -> LedgerState:
    """Append the entry, ring, and wait until the endpoint obeys it.

    Without the wait, a person could be shown a rollback that has not happened. Where the endpoint
    is unreachable or has not loaded the version, the entry stays and is obeyed once it can be.
    """
    ledger_state = append(context.ledger, make_entry)
    entered = (
        f"It is in the ledger (entry {ledger_state.head.generation}) "
        "and will be obeyed, but not yet"
    )
    started = time.monotonic()
    try:
        # By a ring and not by `state`: it has the endpoint read the ledger now. Whatever quorum a
        # release may have, a brake has to be obeyed by all.
        endpoint_state = context.endpoint.ring()
        while not _is_obeyed(ledger_state, model, endpoint_state):
            limit = _seconds_to_obey(context.patience, endpoint_state)
            if time.monotonic() - started > limit:
                cause = _explain_delay(ledger_state, model, endpoint_state)
                raise ReleaseError(
                    f"{entered}: {cause}. `assay status` shows when it does."
                )
            time.sleep(context.patience.between_looks)
            endpoint_state = context.endpoint.ring()
    except ServingError as error:
        raise ServingError(f"{entered}: {error}") from error
    return ledger_state


def _seconds_to_obey(patience: Patience, endpoint_state: EndpointState) -> float:
    if endpoint_state.laggards:
        return patience.to_brake_several
    return patience.to_brake


def _is_obeyed(
    ledger_state: LedgerState, model: str, endpoint_state: EndpointState
) -> bool:
    """Whether the endpoint has come this far or further, and serves what the ledger says."""
    entered, followed = ledger_state.head, endpoint_state.head
    # Generations of another ledger say nothing about this one.
    if followed is None or followed.ledger_id != entered.ledger_id:
        return False
    if followed.generation < entered.generation:
        return False
    # Somebody wrote a later entry: what answers now follows from that one, not from ours.
    if followed != entered:
        return followed.generation > entered.generation
    return _is_routed(ledger_state.model(model), endpoint_state.routes.get(model))


def _is_routed(model_state: ModelState, route: Route | None) -> bool:
    """Whether the route leads to what the ledger has answer under the model's name."""
    if model_state.serves_base:
        return route is not None and route.serves_base
    current = model_state.current
    # With nothing released, nothing may answer.
    expected = None if current is None else current.release.fingerprint
    if route is None or route.serves_base:
        return expected is None
    return route.fingerprint == expected


def _explain_delay(
    ledger_state: LedgerState, model: str, endpoint_state: EndpointState
) -> str:
    alarms = describe_alarms(endpoint_state)
    followed = endpoint_state.head
    if followed is None or followed.generation < ledger_state.head.generation:
        return f"the endpoint has not followed to there{alarms}"
    route = endpoint_state.routes.get(model)
    answering = "nothing" if route is None else route.fingerprint
    return f"{answering} answers under {model} still{alarms}"


def find_rollback_target(model_state: ModelState) -> RecordedRelease | None:
    """The release that a rollback leads to; None where there is none."""
    # While the base answers, the current release is the one that it took over from.
    if model_state.serves_base:
        return model_state.current
    return model_state.before


def _rollback_generation(
    model_state: ModelState,
    model: str,
    version: str | None,
    package_sha256: str | None,
) -> int:
    """The generation at which the release began that a rollback leads to."""
    if version is not None:
        release = _last_release_of(model_state, model, version, package_sha256)
        return release.begun
    if not model_state.once_served:
        raise ReleaseError(
            f"Nothing of {model} was ever released: there is nothing to go back to. "
            "`assay promote` releases a version."
        )
    target = find_rollback_target(model_state)
    if target is None and model_state.serves_base:
        raise ReleaseError(
            f"The base answers for {model}, and no version is left to go back to. "
            "`assay promote` releases another one."
        )
    if target is None:
        raise ReleaseError(
            f"Nothing of {model} served before what serves now. "
            "`assay serve-base` has the base answer."
        )
    return target.begun


def _last_release_of(
    model_state: ModelState, model: str, version: str, package_sha256: str | None
) -> RecordedRelease:
    releases = [
        recorded
        for recorded in model_state.once_served
        if is_of(recorded, version, package_sha256)
    ]
    if not releases:
        raise ReleaseError(
            f"Version {version} of {model} never served. `assay history` lists what did; "
            "`assay promote` releases one."
        )
    # It may have been released more than once: the last time it was judged last, too.
    return releases[-1]
