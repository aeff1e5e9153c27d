"""All endpoints of one ledger, as release, controller and command line ask them."""

from collections.abc import Callable
from pathlib import Path

from core.errors import LedgerError, ServingError
from core.settings import Settings
from registry.release.following import ALL, EndpointState, FollowingEndpoint
from registry.release.replica_table import ReplicaTable
from registry.release.replicas import Replica, describe_lost, find_living, merge
from serving.client import EndpointClient, endpoint_client

_OWN = "this machine"


class ReplicatedEndpoint:
    """A `FollowingEndpoint`: that of this home, and every replica that is registered.

    Only the home's own is rung; replicas look at the ledger by themselves.
    """

    def __init__(self, own: EndpointClient, table: ReplicaTable) -> None:
        self._own = own
        self._table = table

    def ring(self, quorum: int = ALL) -> EndpointState:
        """Their state after a ring. `ServingError` where none answers."""
        return self._merged(self._own.ring, quorum)

    def state(self) -> EndpointState:
        """Their state as it is; `ServingError` as in `ring`."""
        return self._merged(self._own.state, ALL)

    def _merged(
        self, ask_own: Callable[[], EndpointState], quorum: int
    ) -> EndpointState:
        try:
            registered = self._table.read()
        except LedgerError as error:
            return _alone(ask_own(), error)
        # A home on PostgreSQL whose endpoint is the only one.
        if not registered:
            return ask_own()
        living = list(find_living(registered))
        alarms = [describe_lost(each) for each in registered if each not in living]
        try:
            own = ask_own()
        except ServingError:
            # Where replicas answer, the controller's machine may have no endpoint at all.
            if not living:
                raise
        else:
            # It may be a replica itself, and what it says of itself is newer.
            others = [each for each in living if each.name != own.replica]
            living = [Replica(own.replica or _OWN, own), *others]
        merged = merge(living, quorum)
        return merged.model_copy(update={"alarms": (*merged.alarms, *alarms)})


def _alone(own: EndpointState, error: LedgerError) -> EndpointState:
    """The own endpoint's state where nobody knows which replicas there are."""
    alarm = f"The replicas cannot be asked: {error}"
    # Without a head it counts as not following: nothing is complete meanwhile.
    return own.model_copy(update={"head": None, "alarms": (*own.alarms, alarm)})


def following_endpoint(home: Path) -> FollowingEndpoint:
    """The endpoint of that home, with its replicas where its ledger can have some."""
    own = endpoint_client(home)
    table = replica_table()
    if table is None:
        return own
    return ReplicatedEndpoint(own, table)


def replica_table() -> ReplicaTable | None:
    """The replicas of the configured ledger; None where it is a file of this machine."""
    url = Settings().ledger_url
    if not url or url.startswith("sqlite"):
        return None
    return ReplicaTable(url)
