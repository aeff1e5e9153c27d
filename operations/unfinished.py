"""A release whose driver has ended: carried on by the controller, a look in each round."""

from typing import NamedTuple

from core.errors import ReleaseError, ServingError
from registry.ledger.state import ModelState
from registry.release.context import ReleaseContext
from registry.release.release import drive_release, find_outcome, is_at_rest


class Finish(NamedTuple):
    """What became of a release, as a sentence."""

    sentence: str
    has_failed: bool
    """It was aborted or rolled back: people should know."""


def finish_release(model: str, context: ReleaseContext) -> Finish | None:
    """Carry a release as far as it goes now; None where it needs more time, or is no more there."""
    try:
        # Asked first, since taking a release over enters that into the ledger.
        context.endpoint.state()
    except ServingError:
        # Without an endpoint to load it in, a release waits.
        return None
    begun = _unfinished(context.ledger.state().model(model))
    # Whoever drove it may have ended it just now.
    if begun is None:
        return None
    # A canary may take days, in which other models and duties must not wait.
    drive_release(model, context, waits=False)
    if not is_at_rest(context.ledger.state().model(model)):
        return None
    return _describe_end(model, begun, context)


def _unfinished(model_state: ModelState) -> int | None:
    """The generation at which what is on its way began; None where nothing is."""
    if is_at_rest(model_state):
        return None
    # What is on its way comes before what was switched and not yet seen answering.
    recorded = model_state.pending or model_state.answering
    if recorded is None:
        return None
    return recorded.begun


def _describe_end(model: str, begun: int, context: ReleaseContext) -> Finish:
    try:
        outcome = find_outcome(context.ledger, model, begun)
    except ReleaseError as error:
        sentence = f"A release of {model} came to nothing. {error}"
        return Finish(sentence, has_failed=True)
    sentence = (
        f"A release of {model} that was left on its way was carried to its end: "
        f"version {outcome.release.version} serves."
    )
    return Finish(sentence, has_failed=False)
