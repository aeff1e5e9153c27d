"""Break-glass: a release that cannot wait for its canary, by a second person."""

from contextlib import suppress

from core.errors import ReleaseError, ServingError
from registry.ledger.canary import needs_canary
from registry.ledger.entries import CanarySkipped
from registry.ledger.state import LedgerState, RecordedRelease
from registry.release.context import ChangeRequest, ReleaseContext, append, attribute
from registry.release.people import FILE, People


def skip_canary(
    model: str, request: ChangeRequest, context: ReleaseContext, people: People
) -> LedgerState:
    """Let the release of a model that is on its way get all the traffic as soon as it is loaded.

    `ReleaseError` where none is on its way, it has no canary, or the same person began it by
    another account; `IllegalEntry` where it was the same one. Whoever drives the release
    switches it.
    """
    attribution = attribute(request, context.ledger)

    def make_entry(ledger_state: LedgerState) -> CanarySkipped:
        # Looked for each time: another release may have taken its place meanwhile.
        pending = _find_canary(ledger_state, model)
        _check_is_second(pending, request, people)
        return CanarySkipped(
            begun=pending.begun,
            **attribution,
        )

    ledger_state = append(context.ledger, make_entry)
    # Ledger and endpoint agree without the ring, too.
    with suppress(ServingError):
        context.endpoint.ring()
    return ledger_state


def _check_is_second(
    pending: RecordedRelease, request: ChangeRequest, people: People
) -> None:
    """The ledger tells names and accounts apart; whose they are is said by people.yaml alone."""
    first = people.persons_of(pending.by, pending.account)
    second = people.persons_of(request.by, request.account)
    shared = sorted(first & second)
    if shared:
        raise ReleaseError(
            f"{pending.by} and {request.by} are one person by {FILE} ({shared[0]}), who began the "
            "release, and a second person has to skip its canary. Ask another release manager."
        )


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
