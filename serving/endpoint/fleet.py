"""All engines, and who answers: made to match the ledger, as far as engines are ready."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from core.log import say
from core.settings import Settings
from registry.ledger.state import LedgerState, ModelState
from registry.release.canary_counts import CanaryReport
from registry.release.following import EngineState, Route
from serving.endpoint.canary_lane import watched_lane
from serving.endpoint.engine_choice import read_wish
from serving.endpoint.figures import engine_figures, shares
from serving.endpoint.lanes import Branch, Lane, Lanes, Target, find_ready_targets
from serving.endpoint.leftovers import Leftovers
from serving.endpoint.limits import Limits
from serving.endpoint.loading import EngineContext
from serving.endpoint.need import Need
from serving.endpoint.needs import EngineKey, list_needs, serving_need
from serving.endpoint.release_engine import EngineStart, ReleaseEngine
from serving.endpoint.shared.company import SharedBase, bases_of_several
from serving.endpoint.shared.processes import SharedProcesses
from serving.endpoint.spare_engines import SpareEngines, count_wanted
from serving.endpoint.take_overs import TakeOvers, may_be_taken_over
from serving.endpoint.watches import Watches
from serving.observing.figures import Figures


class Fleet:
    """One engine for each release that the ledger needs.

    An engine that is not needed any more answers on until another one can.
    """

    def __init__(self, home: Path, limits: Limits) -> None:
        self.lanes = Lanes(seconds_to_wake=limits.seconds_to_wake)
        settings = Settings()
        self._spares = SpareEngines(count_wanted(settings))
        self._shared = SharedProcesses()
        self._context = EngineContext(
            home,
            limits,
            self._update_lanes,
            self._spares,
            read_wish(settings),
            self._shared,
        )
        self._ledger_state: LedgerState | None = None
        self._engines: dict[EngineKey, ReleaseEngine] = {}
        # What answers under each registered model's name.
        self._answering: dict[str, Target] = {}
        self._watches = Watches()
        self._retiring: dict[asyncio.Task[None], ReleaseEngine] = {}
        self._leftovers = Leftovers(
            home,
            self._context.engines,
            self._shared,
            limits.seconds_between_health_checks,
        )
        self._take_overs = TakeOvers()

    def match_ledger(self, ledger_state: LedgerState) -> None:
        """Begin to load what is needed, and move the traffic to engines that are ready.

        Returns at once, without waiting for any engine.
        """
        self._ledger_state = ledger_state
        self._leftovers.find()
        bases = bases_of_several(ledger_state.models.values(), self._context.engines)
        for model in ledger_state.models.values():
            self._load_needs(model, ledger_state, bases)
        self._watches.follow(ledger_state, self._engines)
        # After all models: any of them may adopt one.
        self._leftovers.end_rest()
        allowed = may_be_taken_over(ledger_state, self._engines)
        self._take_overs.allow(tuple(allowed))
        self._update_lanes()

    def engine_states(self) -> tuple[EngineState, ...]:
        """Every release that is loaded or being loaded."""
        # The engine of a base alone is no release: the controller knows nothing of it.
        states = [
            engine.to_state()
            for engine in self._engines.values()
            if engine.need.with_adapter and not engine.need.beside
        ]
        return tuple(states)

    def canaries(self) -> tuple[CanaryReport, ...]:
        """What is counted of every release that is watched."""
        return self._watches.reports()

    def figures(self) -> Figures:
        """For metrics."""
        engines = [engine_figures(engine) for engine in self._engines.values()]
        state = self._ledger_state
        return Figures(
            engines=tuple(engines),
            shares=tuple(shares(self.lanes, state)),
            generation=0 if state is None else state.head.generation,
        )

    def routes(self) -> dict[str, Route]:
        """What answers under each registered model's name."""
        if self._ledger_state is None:
            return {}
        models = self._ledger_state.models
        targets = self.lanes.ready_targets().items()
        # The lanes hold the names of bases as well.
        return {name: target.to_route() for name, target in targets if name in models}

    def alarms(self) -> tuple[str, ...]:
        """What does not run though it should, and what answers in its place."""
        sentences = [engine.alarm for engine in self._engines.values()]
        sentences += self._fallback_alarms()
        return tuple(sentence for sentence in sentences if sentence)

    async def wait_until_settled(self) -> None:
        """Wait until every release with traffic answers, or has failed at its first start."""
        # Collected first: engines may come and go while one is waited for.
        engines = []
        for model in self._models():
            need = next(list_needs(model), None)
            if need is not None and not need.is_pending:
                engines.append(self._engines[need.key])
        for engine in engines:
            await engine.wait_until_settled()

    async def wait_until_adopted(self) -> None:
        """Wait until every engine that was left running answers, or is known not to."""
        waiting = [
            engine.wait_until_settled()
            for engine in self._engines.values()
            if engine.has_leftover
        ]
        await asyncio.gather(*waiting)

    async def keep_looking_at_packages(self) -> None:
        """For as long as the endpoint runs: report a damaged package while it can be repaired."""
        while True:
            await asyncio.sleep(self._context.limits.seconds_between_package_checks)
            # A copy: engines may come and go while one package is read.
            for engine in tuple(self._engines.values()):
                await engine.look_at_package()

    async def keep_spares(self) -> None:
        """For as long as the endpoint runs: have processes ready for the next release."""
        await self._spares.keep(self._is_quiet)

    async def keep_taking_over(self) -> None:
        """For as long as the endpoint runs: have a faster engine answer what is settled."""
        await self._take_overs.keep(self._is_calm)

    async def close(self) -> None:
        """End every engine.

        Also those that were left running, where it ends before it has read what is needed.
        """
        self._leftovers.find()
        self._leftovers.end_rest()
        engines = (*self._engines.values(), *self._retiring.values())
        # A copy, since each task that ends takes itself out.
        for task in tuple(self._retiring):
            task.cancel()
        # All at once: one after the other, slow ends would add up.
        closing = [engine.close() for engine in engines]
        closing.append(self._spares.close())
        await asyncio.gather(*closing, return_exceptions=True)
        await self._leftovers.wait_until_ended()
        # Each ends with its last release; this is for what was cut off.
        await self._shared.close()

    def _is_quiet(self) -> bool:
        """Whether no engine loads, which would have to share the processor."""
        return not any(engine.is_loading for engine in self._engines.values())

    def _is_calm(self) -> bool:
        """Whether nothing loads, and an engine that ends would find its spare process ready."""
        return self._is_quiet() and not self._spares.are_due

    def _models(self) -> tuple[ModelState, ...]:
        if self._ledger_state is None:
            return ()
        return tuple(self._ledger_state.models.values())

    def _load_needs(
        self,
        model: ModelState,
        ledger_state: LedgerState,
        bases: frozenset[SharedBase],
    ) -> None:
        most_urgent: ReleaseEngine | None = None
        for each in list_needs(model):
            need = each.with_signer(ledger_state).with_company(bases)
            engine = self._engines.get(need.key)
            if engine is None:
                # A predecessor waits for what is more urgent: it is only there for a rollback.
                is_predecessor = need.recorded == model.before
                start = EngineStart(
                    waits_for=most_urgent if is_predecessor else None,
                    leftover=self._leftovers.take(need.contents),
                    engine=self._engine_to_begin_with(model, need),
                )
                engine = ReleaseEngine(need, self._context, start)
                self._engines[need.key] = engine
            else:
                engine.update(need)
            most_urgent = most_urgent or engine

    def _engine_to_begin_with(self, model: ModelState, need: Need) -> str:
        """That of what it is compared with, so that a canary compares times of one kind.

        A baseline beside a release is loaded anew, as that is itself. Empty: the first one.
        """
        if need.beside:
            return self._engine_of_candidate(model)
        serving = serving_need(model)
        if not need.is_pending or serving is None:
            return ""
        plan = need.recorded.release.canary
        engine = self._engines.get(serving.key)
        if plan is None or plan.baseline or engine is None:
            return ""
        return engine.compute_engine

    def _engine_of_candidate(self, model: ModelState) -> str:
        """What computes the release that is on its way."""
        if model.pending is None:
            return ""
        need = Need(model.pending, is_pending=True)
        engine = self._engines.get(need.key)
        return "" if engine is None else engine.compute_engine

    def _update_lanes(self) -> None:
        """Build the table again, then retire the engines that no name and no model needs."""
        if self._ledger_state is None:
            return
        table: dict[str, Lane] = {}
        for name, model in sorted(self._ledger_state.models.items()):
            lane = self._lane(name, model)
            if lane is not None:
                table[name] = lane
        self._answering = find_ready_targets(table)
        # After all models: a registered model's own name goes before a base's.
        for lane in tuple(table.values()):
            base_lane = _base_lane(lane)
            if base_lane is not None:
                table.setdefault(*base_lane)
        self.lanes.replace(table)
        self._retire_unneeded()

    def _lane(self, name: str, model: ModelState) -> Lane | None:
        """The release that has the traffic by the ledger; behind it its predecessor.

        Where neither is ready, what has answered so far answers on.
        """
        needs = [need for need in list_needs(model) if not need.is_pending]
        if not needs:
            return None
        targets = [
            Target(self._engines[need.key], serves_base=model.serves_base)
            for need in needs
        ]
        previous = self._previous_target(name, model)
        if previous is not None and not any(target.is_ready for target in targets):
            targets.append(previous)
        # The ledger's release comes first, ready or not: it has the traffic once it is.
        entitled, *fallbacks = targets
        lane = Lane((Branch(entitled),), tuple(fallbacks))
        watch = self._watches.of(name)
        return lane if watch is None else watched_lane(lane, watch)

    def _previous_target(self, name: str, model: ModelState) -> Target | None:
        """What answers already, if it may go on until its successor can.

        A revoked release may not; the base of a revoked release may.
        """
        target = self._answering.get(name)
        # What does not answer itself can stand in for nothing.
        if target is None or not target.is_ready:
            return None
        serves_base = target.serves_base or model.serves_base
        version = target.engine.need.recorded.release.version
        if version in model.revoked and not serves_base:
            return None
        return Target(target.engine, serves_base=serves_base)

    def _retire_unneeded(self) -> None:
        needed = {
            need.key
            for model in self._models()
            # One model may need several at once, as a canary does.
            for need in list_needs(model)
        }
        # What answers now stays until something else does, whatever the ledger needs.
        for target in self._answering.values():
            need = target.engine.need
            needed.add(need.key)
        # A list, since the loop takes engines away.
        unneeded = [key for key in self._engines if key not in needed]
        for key in unneeded:
            engine = self._engines.pop(key)
            say(f"{engine.label} is not needed any more")
            task = asyncio.create_task(engine.retire())
            self._retiring[task] = engine
            task.add_done_callback(self._retiring.pop)

    def _fallback_alarms(self) -> Iterator[str]:
        for name, target in self._answering.items():
            lane = self.lanes.table[name]
            entitled = lane.branches[0].target
            # One that is still loading is no fault yet.
            has_failed = entitled.engine.state == "failed"
            if has_failed and target != entitled:
                answering = target.engine.label
                missing = entitled.engine.label
                yield f"{name} is answered by {answering} until {missing} runs."


def _base_lane(lane: Lane) -> tuple[str, Lane] | None:
    """The base's own name and who answers it: the same engines, with the adapter off."""
    base_names = [target.engine.base_name for target in lane.targets]
    name = next((base_name for base_name in base_names if base_name), None)
    if name is None:
        return None
    # A fallback must be of the same base, or the name would not be what answers.
    main, *fallbacks = [
        Target(target.engine, serves_base=True)
        for target in lane.targets
        if target.engine.base_name == name
    ]
    return name, Lane((Branch(main),), tuple(fallbacks))
