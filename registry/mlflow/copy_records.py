"""MLflow's records from the home's SQLite file into an empty PostgreSQL, table by table.

MLflow has no command for this. Both databases must be of the revision that this MLflow writes, so
that they have the same tables and columns. Everything is one transaction: a target holds all or
nothing, and what it holds is compared with the source row by row before it counts.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from core.errors import RegistryError
from registry.postgresql import driver_fact, public_place

_REVISION = "alembic_version"
# MLflow's migrations write the default one into every new database.
_PREPARED = "workspaces"
_ROWS_AT_ONCE = 500
SECONDS_FOR_A_WRITER = 5.0
_COPYING = 0x6D6C666C6F77
"""`mlflow` in ASCII: under this lock one move at a time fills a database."""
Digests = dict[str, tuple[int, str]]
"""By table: how many rows there are, and a digest of them in any order."""


@dataclass(frozen=True)
class CopiedRecords:
    """How much a target holds now, and whether an earlier call had copied it."""

    tables: int
    rows: int
    was_there: bool


@dataclass(frozen=True)
class _Side:
    """One of the two databases, its tables, and what a message calls it."""

    connection: sa.Connection
    tables: dict[str, sa.Table]
    name: str


@contextmanager
def unchanging(database: Path) -> Iterator[sa.Connection]:
    """The records of a SQLite file, which nobody can write until the context ends.

    The file itself is not changed. `RegistryError` where somebody is writing to it now.
    """
    with _explained(str(database)), _sqlite(database).connect() as connection:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except sa.exc.OperationalError as error:
            raise RegistryError(
                f"{database} is written by another process now ({error.orig})."
                " Nothing was copied: end that process, and try again."
            ) from error
        try:
            yield connection
        finally:
            # Nothing was written: the transaction only kept others from it.
            connection.exec_driver_sql("ROLLBACK")


def copy_records(
    source: sa.Connection,
    empty: sa.Engine,
    advance: Callable[[int], None] = lambda _: None,
) -> CopiedRecords:
    """Fill an empty database with the records of `source`: all of them or none.

    A database that holds exactly these records stays as it is: a move that was interrupted had
    copied them. `RegistryError` where it holds others, where a revision is another than this
    MLflow's, or where a row is not taken. `advance` is told of every table.
    """
    address = empty.url.render_as_string(hide_password=True)
    name = public_place(address)
    with _explained(name):
        # Before the target gets a single table.
        _check_revision(source, "the home's mlflow.db")
        _make_tables(empty)
        with empty.begin() as connection:
            if _is_postgresql(connection):
                lock = sa.func.pg_advisory_xact_lock(_COPYING)
                connection.execute(sa.select(lock))
            _check_revision(connection, name)
            target = _Side(connection, _tables_of(connection), name)
            origin = _Side(source, _tables_of(source), "the home's mlflow.db")
            _check_columns(origin, target)
            return _fill(origin, target, advance)


def is_mlflows(tables: set[str]) -> bool:
    """Whether a database with these tables is MLflow's, or was left half made by it."""
    # Every model adds its tables to them when its module is imported.
    import mlflow.store.db.utils  # noqa: F401
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels.initial_models import Base as FirstBase

    return tables <= {*Base.metadata.tables, *FirstBase.metadata.tables, _REVISION}


def _fill(
    origin: _Side, target: _Side, advance: Callable[[int], None]
) -> CopiedRecords:
    expected = digests(origin.connection, origin.tables)
    rows = sum(count for count, _ in expected.values())
    present = digests(target.connection, target.tables)
    filled = [name for name, (count, _) in present.items() if count]
    # A new database has the row that MLflow's migrations write, and no other.
    if any(name != _PREPARED for name in filled):
        if present == expected:
            return CopiedRecords(len(expected), rows, was_there=True)
        raise RegistryError(
            f"{target.name} holds other records than this home's mlflow.db already. Nothing was"
            " copied: give an empty database, or empty that one with `dropdb` and `createdb`."
        )
    _copy_tables(origin, target, advance)
    if _is_postgresql(target.connection):
        _set_sequences(target)
    # Read back inside the transaction: what differs is never committed.
    _check_equal(expected, digests(target.connection, target.tables))
    return CopiedRecords(len(expected), rows, was_there=False)


def digests(connection: sa.Connection, tables: dict[str, sa.Table]) -> Digests:
    """Count and digest the rows of every table; the order of rows does not matter."""
    result: Digests = {}
    for name, table in tables.items():
        count, total = 0, 0
        for row in _rows(connection, table):
            # Columns by name: two databases may list them in another order.
            columns = sorted(row.items())
            text = repr(columns)
            hashed = hashlib.sha256(text.encode())
            digest = hashed.digest()
            count += 1
            # A sum knows no order, and other than XOR it counts a row that is there twice.
            number = int.from_bytes(digest)
            total = (total + number) % 2**256
        result[name] = (count, f"{total:064x}")
    return result


def _rows(connection: sa.Connection, table: sa.Table) -> Iterator[dict[str, Any]]:
    statement = sa.select(*_stored(table))
    # The rest of the rows stays in the database: traces may be larger than memory.
    streaming = statement.execution_options(yield_per=_ROWS_AT_ONCE)
    for row in connection.execute(streaming).mappings():
        yield {name: _plain(cell) for name, cell in row.items()}


def _is_postgresql(connection: sa.Connection) -> bool:
    # SQLite needs no lock and no counters, which tests of the other rules use.
    return connection.dialect.name == "postgresql"


def _plain(cell: Any) -> Any:
    # Drivers give bytes of different types.
    return bytes(cell) if isinstance(cell, memoryview | bytearray) else cell


def _stored(table: sa.Table) -> list[sa.Column[Any]]:
    """The columns that are written; others the database computes from them."""
    return [column for column in table.columns if column.computed is None]


def _copy_tables(origin: _Side, target: _Side, advance: Callable[[int], None]) -> None:
    metadata = next(iter(target.tables.values())).metadata
    # The source has that row as well, perhaps with another text in it.
    target.connection.execute(sa.delete(target.tables[_PREPARED]))
    # A table comes after those that its rows refer to.
    for table in metadata.sorted_tables:
        if table.name == _REVISION:
            continue
        with _explained(f"{target.name}, table {table.name},"):
            _copy_table(origin, target, table.name)
        advance(1)


def _copy_table(origin: _Side, target: _Side, name: str) -> None:
    insert = sa.insert(target.tables[name])
    # Row by row is slow, and all at once may be more than the memory holds.
    batch: list[dict[str, Any]] = []
    for row in _rows(origin.connection, origin.tables[name]):
        batch.append(row)
        if len(batch) == _ROWS_AT_ONCE:
            target.connection.execute(insert, batch)
            batch = []
    if batch:
        target.connection.execute(insert, batch)


def _set_sequences(target: _Side) -> None:
    """Have each counter go on behind the highest number that was copied."""
    for table in target.tables.values():
        for column in table.columns:
            is_counted = column.identity is not None or "nextval" in _default(column)
            if not is_counted:
                continue
            highest = sa.select(sa.func.max(column)).scalar_subquery()
            sequence = sa.func.pg_get_serial_sequence(table.name, column.name)
            # Without a row the next number is 1.
            value = sa.func.greatest(sa.func.coalesce(highest, 0), 0)
            statement = sa.func.setval(sequence, value + 1, sa.false())
            target.connection.execute(sa.select(statement))


def _default(column: sa.Column[Any]) -> str:
    # A computed column has a default of another kind, without this.
    argument = getattr(column.server_default, "arg", "")
    return str(argument)


def _check_equal(expected: Digests, present: Digests) -> None:
    different = [name for name in expected if expected[name] != present[name]]
    if different:
        raise RegistryError(
            f"PostgreSQL gave other rows back than it was given, in {', '.join(different)}."
            " Nothing was copied: please report this as a fault of Assay."
        )


def _make_tables(engine: sa.Engine) -> None:
    from mlflow.store.db.utils import _safe_initialize_tables

    # Nothing where they are there already; a part of them is completed.
    _safe_initialize_tables(engine)


def _check_revision(connection: sa.Connection, name: str) -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    newest = _get_latest_schema_revision()  # type: ignore[no-untyped-call]
    query = sa.text(f"SELECT version_num FROM {_REVISION}")  # noqa: S608 - our own name
    revision = None
    if sa.inspect(connection).has_table(_REVISION):
        revision = connection.execute(query).scalar()
    if revision != newest:
        raise RegistryError(
            f"The tables of {name} are of revision {revision}, and this MLflow writes {newest}."
            " Nothing was copied: bring them there with `mlflow db upgrade`, or use the MLflow"
            " that this Assay asks for (`assay doctor`)."
        )


def _tables_of(connection: sa.Connection) -> dict[str, sa.Table]:
    # What is there counts, and not what MLflow's models say: a plug-in may add tables.
    metadata = sa.MetaData()
    metadata.reflect(connection)
    tables = {name: t for name, t in metadata.tables.items() if name != _REVISION}
    for table in tables.values():
        for column in table.columns:
            # A missing document is NULL, not the JSON text `null`.
            if isinstance(column.type, sa.JSON):
                column.type.none_as_null = True
    return tables


def _check_columns(origin: _Side, target: _Side) -> None:
    """The same revision is no proof: a table may have been added or changed by hand."""
    theirs, ours = _columns_of(origin), _columns_of(target)
    names = sorted({*theirs, *ours})
    different = [name for name in names if theirs.get(name) != ours.get(name)]
    if different:
        listed = ", ".join(different)
        raise RegistryError(
            f"{origin.name} and {target.name} have different tables ({listed})."
            " Nothing was copied: use the MLflow that this Assay asks for (`assay doctor`)."
        )


def _columns_of(side: _Side) -> dict[str, set[str]]:
    columns = {}
    for name, table in side.tables.items():
        columns[name] = {column.name for column in table.columns}
    return columns


def _sqlite(database: Path) -> sa.Engine:
    # Never made where it is missing.
    uri = f"{database.resolve().as_uri()}?mode=rw"

    def connect() -> sqlite3.Connection:
        # Python itself begins no transaction: `unchanging` does.
        return sqlite3.connect(
            uri, uri=True, timeout=SECONDS_FOR_A_WRITER, isolation_level=None
        )

    return sa.create_engine("sqlite://", creator=connect, poolclass=NullPool)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except ModuleNotFoundError as error:
        raise RegistryError(
            f"{name} needs psycopg, which is not installed. Install the extra `postgres`."
        ) from error
    except (sa.exc.SQLAlchemyError, sqlite3.Error, MlflowException) as error:
        raise RegistryError(
            f"{name} did not take or give the records ({driver_fact(error)})."
            " Nothing was copied, and mlflow.db is as it was."
        ) from error
