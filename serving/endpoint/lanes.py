"""Who answers under which name. The whole table is one value: changing it is one assignment in the event loop."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Any

from pipelines.values.serving_spec import ServingSpec
from registry.release.following import Route
from serving.endpoint.release_engine import ReleaseEngine
from serving.refusal import Refusal

SECONDS_TO_NOTICE = 0.5
"""Until an engine that ended is seen to have ended."""


@dataclass(frozen=True)
class Target:
    """A release that answers, or its base with the adapter off."""

    engine: ReleaseEngine
    serves_base: bool = False

    @property
    def is_ready(self) -> bool:
        """It answers now."""
        return self.engine.is_ready

    @property
    def model(self) -> str:
        """The name that its engine knows it by."""
        return (
            self.engine.base_name
            if self.serves_base
            else self.engine.need.held.release.model
        )

    @property
    def spec(self) -> ServingSpec:
        """What answers."""
        spec = self.engine.need.held.release.spec
        return spec.with_adapter(None) if self.serves_base else spec

    @property
    def label(self) -> str:
        """Of header `x-assay-release`."""
        return "base" if self.serves_base else self.engine.need.held.release.version

    def as_route(self) -> Route:
        """For the controller."""
        return Route(
            begun=self.engine.need.held.begun,
            serves_base=self.serves_base,
            fingerprint=self.spec.fingerprint,
        )


@dataclass(frozen=True)
class Branch:
    """A target and its share of the requests."""

    target: Target
    weight: float = 100.0


@dataclass(frozen=True)
class Lane:
    """Who answers under one name: releases by weight, then those that step in while none of them is there."""

    branches: tuple[Branch, ...]
    stand_ins: tuple[Target, ...] = ()

    @property
    def first_ready(self) -> Target | None:
        """What answers most of it now."""
        return self.pick(None)

    @property
    def is_coming_back(self) -> bool:
        """One of its engines is being started again, so that waiting a moment is worth it."""
        return any(target.engine.is_coming_back for target in self._targets)

    def pick(self, lost: int | None) -> Target | None:
        """A target for one request, other than the engine process that just lost it (`lost`: its port)."""
        there = [
            branch
            for branch in self.branches
            if branch.target.is_ready and branch.target.engine.port != lost
        ]
        if len(there) > 1:
            return random.choices(there, [branch.weight for branch in there])[0].target  # noqa: S311 - a share, not a secret
        if there:
            return there[0].target
        return next(
            (
                target
                for target in self.stand_ins
                if target.is_ready and target.engine.port != lost
            ),
            None,
        )

    @property
    def _targets(self) -> tuple[Target, ...]:
        return (*(branch.target for branch in self.branches), *self.stand_ins)


@dataclass
class Lanes:
    """The table, and a way to wait for its next change."""

    table: dict[str, Lane] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def replace(self, table: dict[str, Lane]) -> None:
        """Requests that arrive from here on go by the new table."""
        self.table = table
        self._changed.set()
        self._changed = asyncio.Event()

    async def bind(self, name: str, lost: int | None, patience: float) -> Target:
        """Who is to answer one request; a `Refusal` where nothing does. The caller counts it before it awaits anything."""
        deadline = time.monotonic() + patience
        while True:
            changed = self._changed
            lane = self.table.get(name)
            if lane is None:
                raise not_released(name)
            target = lane.pick(lost)
            if target is not None:
                return target
            left = deadline - time.monotonic()
            if left <= 0 or not (lane.is_coming_back or lost is not None):
                raise away(name)
            await _soon(changed, left if lost is None else min(left, SECONDS_TO_NOTICE))
            lost = None  # an engine that ended is known by now; one that is still there lost a connection and nothing more

    def ready(self) -> dict[str, Target]:
        """What answers now, by name."""
        found = {name: lane.first_ready for name, lane in self.table.items()}
        return {name: target for name, target in found.items() if target is not None}


async def _soon(event: asyncio.Event, seconds: float) -> Any:
    try:
        return await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return None


def not_released(name: str) -> Refusal:
    """Nothing of that name was ever put in front of users."""
    return Refusal(
        f"Nothing is released under the name {name}. `assay promote` releases a version; GET /v1/models lists what answers.",
        status=404,
        code="model_not_found",
        param="model",
    )


def away(name: str) -> Refusal:
    """Something is released, but no engine of it answers at this moment."""
    return Refusal(
        f"No engine of {name} answers at this moment. Try again in a few seconds; `assay status` says why.",
        status=503,
        kind="server_error",
        code="not_ready",
    )
