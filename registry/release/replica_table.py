"""The table in which replicas of the endpoint say that they live, and what they answer with.

It lies in the ledger's database and is no part of the ledger: it has no history, and is made again
where it was dropped. All times are of the database's own clock, so that no machine's clock counts.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import ValidationError

from core.errors import LedgerError
from registry.ledger.database import Database
from registry.release.following import EndpointState
from registry.release.replicas import Replica

TABLE = "replicas"
FORGOTTEN_AFTER = 3600.0
"""Seconds for which a replica that reports no more is shown to people."""
_CREATE = sa.text(
    "CREATE TABLE IF NOT EXISTS replicas (name TEXT PRIMARY KEY, instance TEXT NOT NULL,"
    " serves_at TEXT NOT NULL, lease DOUBLE PRECISION NOT NULL, state TEXT NOT NULL,"
    " reported_at TIMESTAMPTZ NOT NULL)"
)
# Under this lock one replica at a time makes the table: `replicas` in ASCII.
_LOCK = sa.text(f"SELECT pg_advisory_xact_lock({0x7265706C69636173})")
_EXISTS = sa.text("SELECT to_regclass('replicas') IS NOT NULL")
# Of two processes under one name only one has the row: the one that began to report last.
_REPORT = sa.text(
    "INSERT INTO replicas (name, instance, serves_at, lease, state, reported_at)"
    " VALUES (:name, :instance, :serves_at, :lease, :state, clock_timestamp())"
    " ON CONFLICT (name) DO UPDATE SET instance = excluded.instance,"
    " serves_at = excluded.serves_at, lease = excluded.lease, state = excluded.state,"
    " reported_at = excluded.reported_at"
    " WHERE :is_first OR replicas.instance = excluded.instance OR"
    " replicas.reported_at < clock_timestamp() - make_interval(secs => replicas.lease)"
)
_FORGET = sa.text(
    "DELETE FROM replicas"
    " WHERE reported_at < clock_timestamp() - make_interval(secs => :seconds)"
)
_LEAVE = sa.text("DELETE FROM replicas WHERE name = :name AND instance = :instance")
# While the database was down nobody could report: that is no silence of theirs.
_READ = sa.text(
    "SELECT name, serves_at, lease, state, EXTRACT(EPOCH FROM clock_timestamp()"
    " - greatest(reported_at, pg_postmaster_start_time())) AS seconds_ago"
    " FROM replicas ORDER BY name"
)
_NEWEST = sa.text("SELECT coalesce(max(generation), 0) FROM entries")


@dataclass(frozen=True)
class ReplicaId:
    """Who reports: a name that people gave, and which of the processes under it."""

    name: str
    instance: str
    # For how many seconds after a report clients may still be sent to it.
    lease: float
    serves_at: str = ""


@dataclass(frozen=True)
class Reported:
    """What a replica hears of the database in return."""

    # False: another process reports under this name.
    is_ours: bool
    newest: int
    """The generation of the ledger's last entry."""


class ReplicaTable:
    """The replicas of one ledger, which is on PostgreSQL. Faults of it are `LedgerError`."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        if self._database.path is not None:
            raise LedgerError(
                "Replicas share a ledger, and a SQLite file is of one machine. "
                "Set ASSAY_LEDGER_URL to PostgreSQL, or unset ASSAY_REPLICA."
            )

    def create(self) -> None:
        """Make the table where it is missing, which takes the right to make tables."""
        with self._database.writing() as connection:
            # Asked first: making a table takes a right that a replica's account need not have.
            if _exists(connection):
                return
            connection.execute(_LOCK)
            connection.execute(_CREATE)

    def report(
        self, replica: ReplicaId, state: EndpointState, *, is_first: bool = False
    ) -> Reported:
        """Say that this replica lives and how it stands; forget those that are long gone.

        The first report of a process takes the name over, as after a restart.
        """
        row = {
            "name": replica.name,
            "instance": replica.instance,
            "serves_at": replica.serves_at,
            "lease": replica.lease,
            "state": state.model_dump_json(),
            "is_first": is_first,
        }
        with self._database.writing() as connection:
            written = connection.execute(_REPORT, row).rowcount
            connection.execute(_FORGET, {"seconds": FORGOTTEN_AFTER})
            newest = connection.execute(_NEWEST).scalar_one()
        return Reported(is_ours=written == 1, newest=int(newest))

    def leave(self, replica: ReplicaId) -> None:
        """Say that this replica ends."""
        row = {"name": replica.name, "instance": replica.instance}
        with self._database.writing() as connection:
            connection.execute(_LEAVE, row)

    def read(self) -> tuple[Replica, ...]:
        """Every replica by name, also those whose lease has ended; none without a table."""
        with self._database.reading() as connection:
            if not _exists(connection):
                return ()
            rows = connection.execute(_READ).all()
        return tuple(_replica(row) for row in rows)


def _exists(connection: sa.Connection) -> bool:
    return bool(connection.execute(_EXISTS).scalar())


def _replica(row: sa.Row[tuple[str, str, float, str, float]]) -> Replica:
    try:
        state = EndpointState.model_validate_json(row.state)
    except ValidationError:
        # Of another version of Assay: it lives, and what it says is not understood.
        alarm = "its report is of another version of Assay."
        state = EndpointState(head=None, alarms=(alarm,))
    return Replica(
        name=row.name,
        state=state,
        serves_at=row.serves_at,
        seconds_ago=float(row.seconds_ago),
        lease=row.lease,
    )
