"""What an endpoint that follows the ledger says of itself: all that a release needs to know of it."""

from typing import Literal, Protocol

from pydantic import Field

from core.value import Value
from registry.ledger.entries import Head


class EngineState(Value):
    """One engine process, by the generation at which its release began."""

    begun: int
    state: Literal["loading", "ready", "failed"]
    detail: str = ""
    """Why it failed, or what its probe saw."""


class Route(Value):
    """What answers under a model's name at this moment."""

    begun: int
    serves_base: bool
    fingerprint: str


class EndpointState(Value):
    """How far the endpoint has followed, what it has loaded, and what answers."""

    head: Head | None
    """The last entry that it has verified and accepted; None before the first."""
    engines: tuple[EngineState, ...] = ()
    routes: dict[str, Route] = Field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    """What a person should look at: a ledger that does not follow, an engine that keeps failing."""

    def engine(self, begun: int) -> EngineState | None:
        """The engine of a release, or None where the endpoint has not heard of it."""
        return next((each for each in self.engines if each.begun == begun), None)


class FollowingEndpoint(Protocol):
    """The endpoint, as release and controller see it. Out of reach is a `ServingError`."""

    def ring(self) -> EndpointState:
        """Have it read the ledger now, and say how it stands after that. Losing the ring costs a timer period, nothing more."""

    def state(self) -> EndpointState:
        """How it stands."""
