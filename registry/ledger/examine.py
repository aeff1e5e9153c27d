"""Whether the ledger at `ASSAY_LEDGER_URL` can be read and written, asked within seconds.

Nothing is made and nothing is written: PostgreSQL itself says what this account may do.
"""

import sqlalchemy as sa

from core.errors import LedgerError
from core.settings import Settings
from core.team_server import SECONDS_TO_EXAMINE, within
from core.value import Value
from registry.ledger.database import Database

OLDEST = 12
"""PostgreSQL's major version."""
_THOUSANDS_OF_A_MAJOR = 10_000
_RIGHTS = {
    "entries": ("SELECT", "INSERT"),
    "texts": ("SELECT", "INSERT"),
    "alembic_version": ("SELECT",),
}
_ENTRIES = "entries"


class LedgerServer(Value):
    """What the database says of itself and of the ledger in it."""

    sentence: str
    has_ledger: bool
    """Whether there is an entry; the first run opens a ledger where there is none."""


def examine_ledger(seconds: float = SECONDS_TO_EXAMINE) -> LedgerServer | None:
    """What holds of the configured ledger; None where none is configured.

    `LedgerError` where it cannot be used; `OperationError` where it does not answer in time.
    """
    url = Settings().ledger_url
    if not url:
        return None
    database = Database(url, mode="ro")
    # The other checks look into a file: it answers at once.
    if database.path is not None:
        return LedgerServer(sentence=f"{database.name}, a SQLite file", has_ledger=True)
    return within(
        seconds, f"The ledger {database.name}", lambda: _examine_postgresql(database)
    )


def _examine_postgresql(database: Database) -> LedgerServer:
    with database.reading() as connection:
        version = _check_version(connection, database)
        _check_writable(connection, database)
        tables = set(sa.inspect(connection).get_table_names())
        if _ENTRIES in tables:
            _check_rights(connection, database)
            # Not a count, which reads the whole table.
            query = sa.text("SELECT 1 FROM entries LIMIT 1")
            entry = connection.execute(query).first()
            has_ledger = entry is not None
        else:
            _check_may_create(connection, database)
            has_ledger = False
    sentence = f"{database.name}, PostgreSQL {version}"
    if not has_ledger:
        sentence += "; the first run opens a ledger in it"
    return LedgerServer(
        sentence=sentence,
        has_ledger=has_ledger,
    )


def _check_version(connection: sa.Connection, database: Database) -> int:
    query = sa.text("SHOW server_version_num")
    number = connection.execute(query).scalar()
    major = int(str(number)) // _THOUSANDS_OF_A_MAJOR
    if major < OLDEST:
        raise LedgerError(
            f"The ledger {database.name} is on PostgreSQL {major}, and Assay needs {OLDEST}. "
            "Install that one there."
        )
    return major


def _check_writable(connection: sa.Connection, database: Database) -> None:
    """A replica, or a database that was set to be read-only, would refuse the first entry."""
    recovery = sa.text("SELECT pg_is_in_recovery()")
    default = sa.text("SHOW default_transaction_read_only")
    is_replica = connection.execute(recovery).scalar()
    setting = connection.execute(default).scalar()
    if is_replica or setting == "on":
        what = "set to be"
        if is_replica:
            what = "a replica, which is"
        raise LedgerError(
            f"The ledger {database.name} is {what} read-only. "
            "Set ASSAY_LEDGER_URL to the server that takes writes."
        )


def _check_rights(connection: sa.Connection, database: Database) -> None:
    query = sa.text("SELECT has_table_privilege(:table, :right)")
    # Asked and not tried: an examination leaves nothing behind.
    for table, rights in _RIGHTS.items():
        for right in rights:
            asked = {
                "table": table,
                "right": right,
            }
            answer = connection.execute(query, asked)
            # Asked as a pass: NULL is no right.
            has_right = answer.scalar()
            if has_right is not True:
                raise LedgerError(
                    f"This account may not {right} in the table {table} of the ledger "
                    f"{database.name}. Have its owner GRANT {right} ON {table}."
                )


def _check_may_create(connection: sa.Connection, database: Database) -> None:
    query = sa.text(
        "SELECT current_schema() IS NOT NULL "
        "AND has_schema_privilege(current_schema(), 'CREATE')"
    )
    may_create = connection.execute(query).scalar()
    if may_create is not True:
        raise LedgerError(
            f"There is no ledger at {database.name} yet, and this account may not make its "
            "tables. Have its owner GRANT CREATE ON SCHEMA public."
        )
