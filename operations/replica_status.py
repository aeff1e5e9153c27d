"""The replicas of the endpoint that follow this ledger, for `assay status`."""

from core.errors import AssayError
from core.value import Value
from registry.ledger.entries import Head
from registry.release.replicas import Replica, describe_lost, find_living
from serving.replicated import replica_table


class ReplicaStatus(Value):
    """One of them, as it last reported."""

    name: str
    serves_at: str
    generation: int
    """How far it has followed the ledger."""
    hash: str
    """Of the entry that it has followed to; empty before the first."""
    answers: dict[str, str]
    """The fingerprint that answers under each model's name."""
    seconds_ago: float
    alarms: tuple[str, ...] = ()
    lost: str = ""
    """That it counts no more, for it reports nothing; empty where it counts."""

    def describe_lag(self, ledger: Head) -> tuple[str, ...]:
        """What a person should look at, of a replica and the ledger's head."""
        if self.lost:
            return (self.lost,)
        replica = f"Replica {self.name}"
        alarms = tuple(f"{replica}: {alarm}" for alarm in self.alarms)
        if self.hash == ledger.hash:
            return alarms
        if self.generation == ledger.generation:
            other_history = (
                f"{replica} obeys another entry {self.generation} than the ledger has: "
                "find out who copied the database back, and stop it."
            )
            return (other_history, *alarms)
        lag = (
            f"{replica} has followed the ledger to entry {self.generation}, "
            f"not to its last, {ledger.generation}."
        )
        return (lag, *alarms)


def find_replicas(out_of_reach: list[str]) -> tuple[ReplicaStatus, ...]:
    """All that are registered; the reason in `out_of_reach` where they cannot be asked for."""
    try:
        table = replica_table()
        registered = () if table is None else table.read()
    except AssayError as error:
        out_of_reach.append(str(error))
        return ()
    living = find_living(registered)
    return tuple(
        _status(each, "" if each in living else describe_lost(each))
        for each in registered
    )


def _status(replica: Replica, lost: str) -> ReplicaStatus:
    routes = replica.state.routes.items()
    head = replica.state.head
    return ReplicaStatus(
        name=replica.name,
        serves_at=replica.serves_at,
        generation=replica.generation,
        hash="" if head is None else head.hash,
        answers={name: route.fingerprint for name, route in routes},
        seconds_ago=replica.seconds_ago,
        alarms=replica.state.alarms,
        lost=lost,
    )
