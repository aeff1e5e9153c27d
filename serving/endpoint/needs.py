"""Which engines the ledger asks for."""

from collections.abc import Iterator
from dataclasses import replace

from registry.ledger.state import ModelState
from serving.endpoint.canary_watch import Watched, find_watched
from serving.endpoint.need import Need

# Number of the release in the ledger, whether its adapter is loaded, and beside which release it
# is loaded a second time.
EngineKey = tuple[int, bool, int]


def list_needs(model: ModelState) -> Iterator[Need]:
    """What is to be loaded of a model, the most urgent first."""
    watched = find_watched(model)
    serving = serving_need(model)
    if serving is not None:
        yield replace(serving, is_compared=_compares_what_serves(watched))
    if model.pending is not None:
        yield Need(model.pending, is_pending=True)
    baseline = baseline_need(model)
    if baseline is not None:
        yield baseline
    if model.before is not None:
        is_baking = watched is not None and watched.stage == "bake"
        yield Need(model.before, is_compared=is_baking)


def _compares_what_serves(watched: Watched | None) -> bool:
    """Whether a canary compares with the very process that serves."""
    if watched is None or watched.stage != "canary":
        return False
    return not watched.plan.baseline


def serving_need(model: ModelState) -> Need | None:
    """What is to be loaded of a model to answer now; None where nothing of it was released."""
    if model.current is not None:
        return Need(model.current)
    if model.serves_base and model.once_served:
        # Every version that served is revoked: the base answers, and the adapter is not loaded
        # for that.
        return Need(model.once_served[-1], with_adapter=False)
    return None


def baseline_need(model: ModelState) -> Need | None:
    """What a release on its way is compared with, loaded as freshly as that; None: nothing is."""
    watched = find_watched(model)
    if watched is None or watched.stage != "canary" or not watched.plan.baseline:
        return None
    serving = serving_need(model)
    if serving is None:
        return None
    # Like the candidate it has one try: an endless one would never be compared.
    return replace(serving, is_pending=True, beside=watched.recorded.begun)
