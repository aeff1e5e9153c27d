"""Break-glass: a release that cannot wait for its canary, by a second person."""

from contextlib import suppress

from core.errors import ReleaseError, ServingError
from registry.ledger.canary import needs_canary
from registry.ledger.entries import CanarySkipped
from registry.ledger.state import LedgerState, RecordedRelease
from registry.release.context import ChangeRequest, ReleaseContext, append, attribute


def skip_canary(
    model: str, request: ChangeRequest, context: ReleaseContext
) -> LedgerState:
    """Let the release of a model that is on its way get all the traffic as soon as it is loaded.

    `ReleaseError` where none is on its way, or it has no canary; `IllegalEntry` where the same
    person began it. Whoever drives the release switches it.
    """
    attribution = attribute(request, context.ledger)

    def make_entry(ledger_state: LedgerState) -> CanarySkipped:
        # Looked for each time: another release may have taken its place meanwhile.
        pending = _find_canary(ledger_state, model)
        return CanarySkipped(
            begun=pending.begun,
            **attribution,
        )

    ledger_state = append(context.ledger, make_entry)
    # Ledger and endpoint agree without the ring, too.
    with suppress(ServingError):
        context.endpoint.ring()
    return ledger_state


def _find_canary(ledger_state: LedgerState, model: str) -> RecordedRelease:
    model_state = ledger_state.model(model)
    pending = model_state.pending
    if pending is None:
        raise ReleaseError(
            f"No release of {model} is on its way. `assay status` says what serves."
        )
    if not needs_canary(model_state, pending.release):
        raise ReleaseError(
            f"Version {pending.release.version} of {model} has no canary to skip. "
            "`assay status` says what it waits for."
        )
    return pending
