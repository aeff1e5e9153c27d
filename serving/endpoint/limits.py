"""How long the endpoint waits for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Seconds, on a monotonic clock: one that is set back or forward changes nothing."""

    to_load: float = 240.0
    """From an engine's start to its readiness, its probe included. Less than a release waits, so that its reason is heard."""
    to_drain: float = 120.0
    """For the answers that an engine still makes when it is no longer wanted; after that they end in an error event."""
    to_finish: float = 25.0
    """For the answers that run when the endpoint is told to end."""
    to_come_back: float = 15.0
    """How long a request waits for an engine that died and is being restarted, where no other release can answer it."""
    between_looks: float = 2.0
    """Between two looks at the ledger that nobody rang for."""
    for_the_ledger: float = 5.0
    """For one look; the endpoint goes on without, and says so."""
    between_health_checks: float = 5.0
    without_an_endpoint: float = 120.0
    """For an engine whose endpoint was killed to be taken over by the next one; after that it ends by itself."""
    between_package_checks: float = 5.0
    """Between two looks at the package folders of what is loaded."""
    to_take_over: float = 5.0
    """Until the engines that an earlier endpoint left answer again; the endpoint takes requests then, whatever became of them."""
