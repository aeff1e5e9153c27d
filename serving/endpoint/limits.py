"""How long the endpoint waits for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Seconds, on a monotonic clock: one that is set back or forward changes nothing."""

    # From an engine's start to its readiness, its probe included. Less than a release waits, so
    # that its reason is heard.
    to_load: float = 240.0
    # For the answers that an engine still generates when it is not needed any more; after that
    # they end in an error event.
    to_drain: float = 120.0
    # For the answers that run when the endpoint receives SIGTERM.
    to_finish: float = 25.0
    # How long a request waits for an engine that died and is restarting, where no other release
    # can answer it.
    to_come_back: float = 15.0
    # Between two looks at the ledger that nobody rang for.
    between_looks: float = 2.0
    # For one look; after that the endpoint serves on without it, and says so.
    for_the_ledger: float = 5.0
    between_health_checks: float = 5.0
    # For an engine whose endpoint was killed to be adopted by the next one; after that it ends by
    # itself.
    without_an_endpoint: float = 120.0
    # Between two looks at the package folders of what is loaded.
    between_package_checks: float = 5.0
    # Until the engines that an earlier endpoint left answer again; the endpoint takes requests
    # then, whatever became of them.
    to_take_over: float = 5.0
