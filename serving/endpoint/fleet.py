"""All engines, and who answers: made to match how things stand in the ledger, as far as engines are there."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from registry.ledger.state import LedgerState, ModelState
from registry.release.following import EngineState, Route
from serving.endpoint.engine_record import EngineRecord, Loaded, read_records
from serving.endpoint.lanes import Branch, Lane, Lanes, Target
from serving.endpoint.limits import Limits
from serving.endpoint.release_engine import (
    Beginning,
    Need,
    ReleaseEngine,
    Surroundings,
    end_left,
)
from serving.log import say

Key = tuple[int, bool]


def needs(model: ModelState) -> Iterator[Need]:
    """What is to be loaded of a model, the most urgent first."""
    if model.current is not None:
        yield Need(model.current)
    elif model.serves_base and model.once_served:
        # Whatever served is revoked: its base answers, and the adapter is not loaded for that.
        yield Need(model.once_served[-1], with_adapter=False)
    if model.pending is not None:
        yield Need(model.pending, is_pending=True)
    if model.before is not None:
        yield Need(model.before)


class Fleet:
    """One engine for each release that the ledger needs, and for those that still answer until another one can."""

    def __init__(self, home: Path, limits: Limits) -> None:
        self.lanes = Lanes()
        self._around = Surroundings(home, limits, self._route)
        self._ledger_state: LedgerState | None = None
        self._engines: dict[Key, ReleaseEngine] = {}
        self._answering: dict[str, Target] = {}
        self._leaving: dict[asyncio.Task[None], ReleaseEngine] = {}
        self._left: list[EngineRecord] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def match(self, ledger_state: LedgerState) -> None:
        """Begin to load what is needed, and move the traffic to what may have it and is loaded: at once, without waiting."""
        self._ledger_state = ledger_state
        if self._left is None:
            self._left = list(read_records(self._around.home))
        for model in ledger_state.models.values():
            first: ReleaseEngine | None = None
            for need in needs(model):
                engine = self._engines.get(need.key)
                if engine is None:
                    # A predecessor waits for what is more urgent: it is only there for a rollback.
                    after = first if need.held == model.before else None
                    beginning = Beginning(after, self._take_left(need.loaded))
                    engine = self._engines[need.key] = ReleaseEngine(
                        need, self._around, beginning
                    )
                else:
                    engine.update(need)
                first = first or engine
        self._end_left()
        self._route()

    def engine_states(self) -> tuple[EngineState, ...]:
        """Every release that is loaded or being loaded."""
        return tuple(
            engine.as_state()
            for engine in self._engines.values()
            if engine.need.with_adapter
        )

    def routes(self) -> dict[str, Route]:
        """What answers under each registered model's name."""
        models = self._ledger_state.models if self._ledger_state else {}
        return {
            name: target.as_route()
            for name, target in self.lanes.ready().items()
            if name in models
        }

    def alarms(self) -> tuple[str, ...]:
        """What does not run though it should, and what answers in its place."""
        broken = tuple(
            alarm for engine in self._engines.values() if (alarm := engine.alarm)
        )
        return broken + tuple(self._stand_ins())

    async def settled(self) -> None:
        """Wait until whatever is to have traffic answers, or has failed at its first start."""
        models = self._ledger_state.models.values() if self._ledger_state else ()
        first = [
            self._engines[need.key]
            for model in models
            if (need := next(needs(model), None)) and not need.is_pending
        ]
        for engine in first:
            await engine.settled()

    async def taken_over(self) -> None:
        """Wait until every engine that was found running answers, or is known not to."""
        await asyncio.gather(
            *(engine.settled() for engine in self._engines.values() if engine.is_found)
        )

    async def keep_looking_at_packages(self) -> None:
        """For as long as the endpoint runs: a damaged package is said while there is time to repair it."""
        while True:
            await asyncio.sleep(self._around.limits.between_package_checks)
            for engine in tuple(self._engines.values()):
                await engine.look_at_package()

    async def close(self) -> None:
        """End every engine, also those that were found running before it was known what is needed."""
        if self._left is None:
            self._left = list(read_records(self._around.home))
        self._end_left()
        engines = (*self._engines.values(), *self._leaving.values())
        for task in tuple(self._leaving):
            task.cancel()
        await asyncio.gather(
            *(engine.close() for engine in engines), return_exceptions=True
        )
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _take_left(self, loaded: Loaded) -> EngineRecord | None:
        """A process of an earlier endpoint that has the same loaded."""
        record = next(
            (each for each in self._left or () if each.loaded == loaded), None
        )
        if record is not None and self._left is not None:
            self._left.remove(record)
        return record

    def _end_left(self) -> None:
        """What an earlier endpoint left running and nothing needs any more, such as a release that was revoked meanwhile."""
        for record in self._left or ():
            say(
                f"Engine process {record.pid} (a release of {record.loaded.model}) was left running and is not needed any more"
            )
            task = asyncio.get_running_loop().create_task(
                end_left(self._around.home, record)
            )
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        self._left = []

    def _route(self) -> None:
        """Make the table anew, then let go of what no name and no model needs."""
        if self._ledger_state is None:
            return
        table: dict[str, Lane] = {}
        for name in sorted(self._ledger_state.models):
            if (lane := self._lane(name, self._ledger_state.models[name])) is not None:
                table[name] = lane
        self._answering = {
            name: target
            for name, lane in table.items()
            if (target := lane.first_ready) is not None
        }
        for lane in tuple(table.values()):
            base_lane = _base_lane(lane)
            if base_lane is not None:
                table.setdefault(*base_lane)
        self.lanes.replace(table)
        self._let_go()

    def _lane(self, name: str, model: ModelState) -> Lane | None:
        """The release that the ledger gives the traffic to; behind it its predecessor, and what answered until now."""
        wanted = [need for need in needs(model) if not need.is_pending]
        if not wanted:
            return None
        targets = [
            Target(self._engines[need.key], serves_base=model.serves_base)
            for need in wanted
        ]
        until_now = self._until_now(name, model)
        if until_now is not None and not any(target.is_ready for target in targets):
            targets.append(until_now)
        return Lane((Branch(targets[0]),), tuple(targets[1:]))

    def _until_now(self, name: str, model: ModelState) -> Target | None:
        """What answers already goes on until its successor can, unless it is revoked; the base of a revoked release is not."""
        target = self._answering.get(name)
        if target is None or not target.is_ready:
            return None
        serves_base = target.serves_base or model.serves_base
        if target.engine.need.held.release.version in model.revoked and not serves_base:
            return None
        return Target(target.engine, serves_base=serves_base)

    def _let_go(self) -> None:
        models = self._ledger_state.models.values() if self._ledger_state else ()
        needed = {need.key for model in models for need in needs(model)} | {
            each.engine.need.key for each in self._answering.values()
        }
        for key in [key for key in self._engines if key not in needed]:
            engine = self._engines.pop(key)
            say(f"{engine.label} is not needed any more")
            task = asyncio.get_running_loop().create_task(engine.retire())
            self._leaving[task] = engine
            task.add_done_callback(self._leaving.pop)

    def _stand_ins(self) -> Iterator[str]:
        for name, target in self._answering.items():
            wanted = self.lanes.table[name].branches[0].target
            if target != wanted and wanted.engine.state == "failed":
                yield f"{name} is answered by {target.engine.label} until {wanted.engine.label} runs."


def _base_lane(lane: Lane) -> tuple[str, Lane] | None:
    """The base's own name and who answers it: the same engines, with the adapter off."""
    targets = [branch.target for branch in lane.branches] + list(lane.stand_ins)
    name = next(
        (target.engine.base_name for target in targets if target.engine.base_name), None
    )
    if name is None:
        return None
    # Who steps in must be of the same base, or the name would say something else than what answers.
    first, *others = [
        Target(target.engine, serves_base=True)
        for target in targets
        if target.engine.base_name == name
    ]
    return name, Lane((Branch(first),), tuple(others))
