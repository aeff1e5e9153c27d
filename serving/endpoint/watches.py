"""Every release that is watched, by the name of its model."""

from collections.abc import Mapping

from registry.ledger.state import LedgerState, ModelState
from registry.release.canary_counts import CanaryReport
from serving.endpoint.canary_watch import CanaryWatch, Sides, Watched, find_watched
from serving.endpoint.feedback import Ratings
from serving.endpoint.need import Need
from serving.endpoint.needs import EngineKey, baseline_need, serving_need
from serving.endpoint.release_engine import ReleaseEngine


class Watches:
    """At most one of a model: a release on its way, or one that switched just now."""

    def __init__(self) -> None:
        self._by_model: dict[str, CanaryWatch] = {}

    def follow(
        self, ledger_state: LedgerState, engines: Mapping[EngineKey, ReleaseEngine]
    ) -> None:
        """Count what the ledger has watched now, and continue what was counted of it so far."""
        watches = {}
        for name, model in ledger_state.models.items():
            watched = find_watched(model)
            if watched is None:
                continue
            watch = self._by_model.get(name)
            # Another release, or another stage of it: its counts begin at nothing.
            if watch is None or watch.watched.key != watched.key:
                watch = CanaryWatch(watched, ratings=_ratings_so_far(watch, watched))
            watch.follow(
                watched,
                _sides(model, watched, engines),
            )
            watches[name] = watch
        # A watch that nobody follows would go on sending copies.
        for watch in self._by_model.values():
            if watch not in watches.values():
                watch.stop()
        self._by_model = watches

    def of(self, model: str) -> CanaryWatch | None:
        """The watch of a model; None where nothing of it is watched."""
        return self._by_model.get(model)

    def reports(self) -> tuple[CanaryReport, ...]:
        """For the controller."""
        return tuple(watch.report() for watch in self._by_model.values())


def _ratings_so_far(watch: CanaryWatch | None, watched: Watched) -> Ratings:
    """Those of the same release before its switch; else none."""
    if watch is None or watch.watched.recorded.begun != watched.recorded.begun:
        return Ratings()
    return watch.ratings


def _sides(
    model: ModelState, watched: Watched, engines: Mapping[EngineKey, ReleaseEngine]
) -> Sides:
    """The engines whose answers are compared."""
    is_pending = watched.stage == "canary"
    candidate = Need(watched.recorded, is_pending=is_pending)
    # In the bake nothing is loaded beside: what served before answers copies.
    beside = baseline_need(model)
    return Sides(
        candidate=engines.get(candidate.key),
        baseline=_find(
            beside or _compared_need(model, watched),
            engines,
        ),
        is_beside=beside is not None,
    )


def _compared_need(model: ModelState, watched: Watched) -> Need | None:
    """What is loaded anyway and is compared with: what serves, or what served before."""
    if watched.stage == "canary":
        return serving_need(model)
    return None if model.before is None else Need(model.before)


def _find(
    need: Need | None, engines: Mapping[EngineKey, ReleaseEngine]
) -> ReleaseEngine | None:
    return None if need is None else engines.get(need.key)
