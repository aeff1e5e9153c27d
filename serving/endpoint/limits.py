"""How long the endpoint waits for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """On a monotonic clock: a clock that is set back or forward changes nothing."""

    # From an engine's start to its readiness, its probe included. Less than a release waits, so
    # that its reason is heard.
    seconds_to_load: float = 240.0
    # The same for a process that is to take over from one that answers: nobody waits for it, and
    # it compiles beside everything else.
    seconds_to_compile: float = 900.0
    # For the answers that an engine still generates when it is not needed any more; after that
    # they end in an error event.
    seconds_to_drain: float = 120.0
    # For the answers that run when the endpoint receives SIGTERM.
    seconds_to_finish: float = 25.0
    # How long a request waits for an engine that died and is restarting, where no other release
    # can answer it.
    seconds_to_come_back: float = 15.0
    # Between two looks at the ledger that nobody rang for.
    seconds_between_looks: float = 2.0
    # Without following the ledger, after which a load balancer is told to ask others; 0: never.
    seconds_ready_alone: int = 0
    # Without a request, after which an engine is unloaded; 0: never.
    seconds_until_unloaded: float = 0.0
    # How long a request waits for an engine that was unloaded.
    seconds_to_wake: float = 60.0
    # For one look; after that the endpoint serves what it verified last, and raises an alarm.
    seconds_for_the_ledger: float = 5.0
    seconds_between_health_checks: float = 5.0
    # For an engine whose endpoint was killed to be adopted by the next one; after that it ends by
    # itself.
    seconds_without_an_endpoint: float = 120.0
    # Between two looks at the package folders of what is loaded.
    seconds_between_package_checks: float = 5.0
    # Until the engines that an earlier endpoint left answer again; the endpoint takes requests
    # then, whatever became of them.
    seconds_to_take_over: float = 5.0
