"""Several endpoints that follow one ledger, as a release sees them: like one that is as far as all.

A release asks `FollowingEndpoint` alone. So it is begun, switched, completed and undone by the same
rules, whether one process answers or ten on as many machines.

reports ─find_living─▶ those that count ─merge─▶ one `EndpointState`
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from registry.ledger.entries import Head
from registry.release.canary_counts import CanaryReport
from registry.release.following import ALL, EndpointState, EngineState, Route

LEASE = 10.0
"""Seconds for which a replica counts after its last report, where it never says that it is unready.

Reports come every second, so that several are lost before it counts no more.
"""
LONGEST_SILENCE = 120.0
"""Seconds after which replicas count no more though none of them has reported since."""
SEVERAL = Route(begun=0, serves_base=False, fingerprint="several")
"""What answers where too few replicas agree: no release, since none begins at generation 0."""


@dataclass(frozen=True)
class Replica:
    """One endpoint and what it last reported."""

    name: str
    state: EndpointState
    serves_at: str = ""
    # Since it reported, by the clock of the ledger's database.
    seconds_ago: float = 0.0
    # For how many seconds after that clients may still be sent to it.
    lease: float = LEASE

    @property
    def generation(self) -> int:
        """How far it has followed the ledger; 0 before its first entry."""
        head = self.state.head
        if head is None:
            return 0
        return head.generation


def find_living(replicas: Sequence[Replica]) -> tuple[Replica, ...]:
    """Those that count.

    A replica is lost once it is silent for its lease while others report. Where all are silent,
    it was the database: after it comes back, nobody has had the time to report yet, and none is
    lost for that.
    """
    latest = min((each.seconds_ago for each in replicas), default=0.0)
    return tuple(each for each in replicas if not _is_lost(each, latest))


def _is_lost(replica: Replica, latest: float) -> bool:
    is_alone_silent = replica.seconds_ago - latest > replica.lease
    limit = max(LONGEST_SILENCE, replica.lease)
    return is_alone_silent or replica.seconds_ago > limit


def describe_lost(replica: Replica) -> str:
    """That a replica reports no more, and what it may still do."""
    # Without the seconds: people are told of each new sentence.
    return (
        f"Replica {replica.name} reports no more. "
        f"If it lives, it answers by entry {replica.generation}."
    )


def merge(replicas: Sequence[Replica], quorum: int = ALL) -> EndpointState:
    """One state of at least one replica: true of `quorum` percent of them.

    The head is the furthest that so many have followed to. An engine is ready where so many have
    it ready, and has failed where too few are left that could.
    """
    needed = needed_of(len(replicas), quorum)
    head = _furthest_head(replicas, needed)
    # What others report follows from another entry, and counts for nothing at this one.
    together = [replica for replica in replicas if replica.state.head == head]
    counts = _Counts(together, needed, len(replicas) - needed)
    alarms = [
        f"{replica.name}: {alarm}"
        for replica in replicas
        for alarm in replica.state.alarms
    ]
    return EndpointState(
        head=head,
        engines=counts.engines(),
        routes=counts.routes(),
        canaries=counts.canaries(),
        alarms=tuple(alarms),
        laggards=tuple(_describe_laggards(replicas)),
    )


def needed_of(number: int, quorum: int) -> int:
    """How many of so many replicas a quorum in percent is: at least one."""
    rounded_up = -(-number * quorum // 100)
    return max(1, rounded_up)


@dataclass(frozen=True)
class _Counts:
    """Replicas at one entry, how many have to agree, and how many may fail."""

    replicas: Sequence[Replica]
    needed: int
    may_fail: int

    @property
    def states(self) -> list[EndpointState]:
        return [replica.state for replica in self.replicas]

    def engines(self) -> tuple[EngineState, ...]:
        begun = {engine.begun for state in self.states for engine in state.engines}
        return tuple(self._engine(each) for each in sorted(begun))

    def routes(self) -> dict[str, Route]:
        names: set[str] = set()
        for state in self.states:
            names.update(state.routes)
        return {name: self._route(name) for name in names}

    def canaries(self) -> tuple[CanaryReport, ...]:
        """Of each release the counts of the one replica that was asked most.

        Requests reach each by chance, so that what one counts is a sample of all. A sum would
        shrink where a replica is lost, which no test of a canary foresees.
        """
        busiest: dict[int, CanaryReport] = {}
        reports = [report for state in self.states for report in state.canaries]
        for report in reports:
            best = busiest.setdefault(report.begun, report)
            if report.step_requests > best.step_requests:
                busiest[report.begun] = report
        return tuple(busiest.values())

    def _engine(self, begun: int) -> EngineState:
        details: dict[str, list[str]] = {"ready": [], "failed": []}
        for replica in self.replicas:
            engine = replica.state.engine(begun)
            if engine is None or engine.state == "loading":
                continue
            detail = f"{replica.name}: {engine.detail}"
            details[engine.state].append(detail)
        ready = details["ready"]
        failed = details["failed"]
        if len(ready) >= self.needed:
            return EngineState(begun=begun, state="ready", detail="; ".join(ready))
        if len(failed) > self.may_fail:
            return EngineState(begun=begun, state="failed", detail="; ".join(failed))
        return EngineState(begun=begun, state="loading")

    def _route(self, name: str) -> Route:
        routes = Counter(state.routes.get(name) for state in self.states)
        route, number = routes.most_common(1)[0]
        if route is None or number < self.needed:
            return SEVERAL
        return route


def _furthest_head(replicas: Sequence[Replica], needed: int) -> Head | None:
    """The head that `needed` of them have followed to, or further."""
    heads = [each.state.head for each in replicas if each.state.head is not None]
    heads.sort(key=lambda head: head.generation, reverse=True)
    if len(heads) < needed:
        return None
    return heads[needed - 1]


def _describe_laggards(replicas: Sequence[Replica]) -> Iterator[str]:
    """What the others wait for, where they wait: an entry that is not followed yet, an engine."""
    furthest = max(replica.generation for replica in replicas)
    for replica in replicas:
        name = replica.name
        if replica.generation < furthest:
            yield f"{name} is at entry {replica.generation}, not at {furthest}"
        for engine in replica.state.engines:
            if engine.state == "loading":
                yield f"{name} still loads the release of entry {engine.begun}"
