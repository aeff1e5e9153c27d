"""Who answers under which name.

The whole table is one value: changing it is one assignment in the event loop.
"""

import asyncio
import hashlib
import random
import time
from dataclasses import dataclass, field

from pipelines.engines.refusal import Refusal
from pipelines.values.serving_spec import ServingSpec
from registry.release.following import Route
from serving.endpoint.feedback import RatedSide
from serving.endpoint.release_engine import ReleaseEngine
from serving.endpoint.tally import Tally
from serving.observing.origin import Origin

# Until an engine that ended is seen to have ended.
SECONDS_TO_NOTICE = 0.5


@dataclass(frozen=True)
class Target:
    """A release that answers, or its base with the adapter off."""

    engine: ReleaseEngine
    serves_base: bool = False
    # What counts its answers; None: nobody does.
    tally: Tally | None = field(default=None, compare=False)
    # Where ratings of its answers count; None: nowhere.
    rated_side: RatedSide | None = field(default=None, compare=False)
    # A request that it fails is given to what serves, before anything was sent.
    is_on_trial: bool = field(default=False, compare=False)

    @property
    def is_ready(self) -> bool:
        """Whether it answers, if only after it was loaded again."""
        return self.engine.can_answer

    @property
    def model(self) -> str:
        """The name that its engine knows it by."""
        if self.serves_base:
            return self.engine.base_name
        return self.engine.need.recorded.release.model

    @property
    def spec(self) -> ServingSpec:
        """What answers, as it was scored."""
        spec = self.engine.need.recorded.release.spec
        if self.serves_base:
            return spec.with_adapter(None)
        return spec

    @property
    def computed_spec(self) -> ServingSpec:
        """What answers, with the engine that computes it at this moment."""
        loaded = self.engine.loaded_spec
        return self.spec.in_engine(loaded.engine, loaded.engine_version)

    @property
    def label(self) -> str:
        """The value of header `x-assay-release`."""
        if self.serves_base:
            return "base"
        return self.engine.need.recorded.release.version

    def origin_as(self, name: str) -> Origin:
        """What an answer to a request under that name comes from."""
        return Origin(
            name,
            self.label,
            self.spec.fingerprint,
        )

    def to_route(self) -> Route:
        """For the controller."""
        return Route(
            begun=self.engine.need.recorded.begun,
            serves_base=self.serves_base,
            fingerprint=self.spec.fingerprint,
        )

    def can_take(self, lost_port: int | None) -> bool:
        """Whether it may answer a request that the engine process on `lost_port` just lost."""
        if not self.is_ready:
            return False
        # By port: an engine that was restarted since then listens on another one.
        return self.engine.port != lost_port


@dataclass(frozen=True)
class Branch:
    """A target and its share of the requests."""

    target: Target
    # Percent; the first branch of a lane has what the others leave.
    weight: float = 100.0
    # Whether it answers in the place of another branch that is not ready.
    stands_in: bool = True


@dataclass(frozen=True)
class Copies:
    """A share of the requests that others answer as well, for nobody to see."""

    # Percent.
    share: float
    targets: tuple[Target, ...]
    # What counts the answer that the client gets to a request that is copied; None: nothing does.
    tally: Tally | None = None

    @property
    def are_wanted(self) -> bool:
        """Whether every target is loaded, and the next request is one of the share."""
        is_drawn = 100 * random.random() < self.share  # noqa: S311 - a share, not a secret
        return is_drawn and all(target.engine.is_ready for target in self.targets)


@dataclass(frozen=True)
class Lane:
    """Who answers under one name.

    Releases by weight, then those that step in while none of them is ready.
    """

    branches: tuple[Branch, ...]
    fallbacks: tuple[Target, ...] = ()
    copies: Copies | None = None
    # Mixed into the draw of a client, so that each canary draws other clients.
    salt: str = ""

    @property
    def first_ready(self) -> Target | None:
        """What answers most of it now."""
        return self._stand_in(None)

    @property
    def is_coming_back(self) -> bool:
        """Whether one of its engines is restarting, so that waiting a moment is worth it."""
        # Any of them would do for the client that waits.
        engines = [target.engine for target in self.targets]
        return any(engine.is_coming_back for engine in engines)

    @property
    def targets(self) -> tuple[Target, ...]:
        """All of them, fallbacks last."""
        entitled = [branch.target for branch in self.branches if branch.stands_in]
        return (*entitled, *self.fallbacks)

    def pick(self, lost_port: int | None, client: str | None = None) -> Target | None:
        """A target for one request.

        By chance, or always the same for a client that is named. After an engine process lost the
        request, which is known by its port: another one, and none that is on trial.
        """
        if lost_port is None:
            drawn = self._draw(client)
            if drawn is not None and drawn.is_ready:
                return drawn
        return self._stand_in(lost_port)

    def _draw(self, client: str | None) -> Target | None:
        """The branch beside the first one that a request falls to; None: it is the first's."""
        point = self._point(client)
        for branch in self.branches[1:]:
            point -= branch.weight
            if point < 0:
                return branch.target
        return None

    def _point(self, client: str | None) -> float:
        """A number from 0 to under 100."""
        if client is None:
            return 100 * random.random()  # noqa: S311 - a share, not a secret
        digest = hashlib.sha256(f"{self.salt} {client}".encode("utf-8", "replace"))
        return 100 * int.from_bytes(digest.digest()[:6]) / 2**48

    def _stand_in(self, lost_port: int | None) -> Target | None:
        """The first target that is ready, without any share."""
        ready = (target for target in self.targets if target.can_take(lost_port))
        return next(ready, None)


@dataclass
class Lanes:
    """The table, and a way to wait for its next change."""

    table: dict[str, Lane] = field(default_factory=dict)
    # How long a request waits for an engine that was unloaded.
    seconds_to_wake: float = 60.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def replace(self, table: dict[str, Lane]) -> None:
        """Requests that arrive from now on go by the new table."""
        self.table = table
        # Wakes those that wait for this change; the next ones wait for another event.
        self._changed.set()
        self._changed = asyncio.Event()

    async def bind(
        self,
        name: str,
        lost_port: int | None,
        patience: float,
        client: str | None = None,
    ) -> Target:
        """Who is to answer one request; a `Refusal` where no engine does.

        Waits up to `patience` seconds for an engine that is restarting, and longer for one that
        was unloaded. The caller counts the request before it awaits anything, so that its engine
        is not ended meanwhile.
        """
        began = time.monotonic()
        deadline = began + patience
        while True:
            # Before the table is read: a change after that is not missed.
            changed = self._changed
            lane = self.table.get(name)
            if lane is None:
                raise not_released_error(name)
            target = lane.pick(lost_port, client)
            if target is not None and target.engine.is_ready:
                return target
            is_worth_waiting = lost_port is not None or lane.is_coming_back
            # It was unloaded: what serves in its place would be another version.
            if target is not None:
                target.engine.wake()
                is_worth_waiting = True
                deadline = max(deadline, began + self.seconds_to_wake)
            seconds_left = deadline - time.monotonic()
            if seconds_left <= 0 or not is_worth_waiting:
                raise unavailable_error(name)
            if lost_port is not None:
                seconds_left = min(seconds_left, SECONDS_TO_NOTICE)
            await _wait_for_change(changed, seconds_left)
            # An engine that ended is known to have ended by now; one that still runs lost a
            # connection and nothing more, and may answer.
            lost_port = None

    def table_has(self, name: str) -> bool:
        """Whether something was released under that name."""
        return name in self.table

    def ready_targets(self) -> dict[str, Target]:
        """What answers now, by name."""
        return find_ready_targets(self.table)


def find_ready_targets(table: dict[str, Lane]) -> dict[str, Target]:
    """What answers now by that table; a name under which no engine is ready is not in it."""
    targets: dict[str, Target] = {}
    for name, lane in table.items():
        target = lane.first_ready
        if target is not None:
            targets[name] = target
    return targets


async def _wait_for_change(changed: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(changed.wait(), seconds)
    except TimeoutError:
        return


def not_released_error(name: str) -> Refusal:
    """No release of that name was ever put in front of users."""
    return Refusal(
        f"Nothing is released under the name {name}. "
        "`assay promote` releases a version; GET /v1/models lists what answers.",
        status=404,
        code="model_not_found",
        param="model",
    )


def unavailable_error(name: str) -> Refusal:
    """A version is released, but no engine of it answers at this moment."""
    return Refusal(
        f"No engine of {name} answers at this moment. "
        "Try again in a few seconds; `assay status` says why.",
        status=503,
        kind="server_error",
        code="not_ready",
    )
