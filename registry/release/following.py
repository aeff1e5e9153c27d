"""What an endpoint that follows the ledger reports: all that a release needs to know of it."""

from typing import Literal, Protocol

from pydantic import Field

from core.value import Value
from registry.ledger.entries import Head
from registry.release.canary_counts import CanaryReport

ALL = 100
"""Percent of the endpoints that follow one ledger."""


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
    canaries: tuple[CanaryReport, ...] = ()
    """What is counted of releases that get traffic step by step, or got all of it just now."""
    alarms: tuple[str, ...] = ()
    """What a person should look at: an unverified ledger, an engine that keeps failing."""
    replica: str = ""
    """Its name among several endpoints of one ledger; empty where it is none of them."""
    laggards: tuple[str, ...] = ()
    """Of several endpoints: a sentence for each that the others wait for."""

    def engine(self, begun: int) -> EngineState | None:
        """The engine of a release, or None where the endpoint does not know the release yet."""
        for engine in self.engines:
            if engine.begun == begun:
                return engine
        return None

    def canary(self, begun: int) -> CanaryReport | None:
        """What is counted of the release that began at that generation; None where nothing is."""
        for report in self.canaries:
            if report.begun == begun:
                return report
        return None


# A protocol: releases and brakes must not import anything of serving.
class FollowingEndpoint(Protocol):
    """The endpoint, as release and controller see it. Unreachable is `ServingError`.

    Where several follow one ledger, it is all of them.
    """

    def ring(self, quorum: int = ALL) -> EndpointState:
        """Have the endpoint read the ledger now, and give its state after that.

        `quorum`: of several endpoints, the percent that the state has to be true of.
        A lost ring costs one timer period: the endpoint also reads by itself.
        """

    def state(self) -> EndpointState:
        """The endpoint's state as it is."""
