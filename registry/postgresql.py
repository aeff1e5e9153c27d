"""Addresses of PostgreSQL as people write them, for the libraries that connect."""

from collections.abc import Callable
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from core.address import NOT_SHOWN, shown
from core.errors import OperationError, first_line

NAMES = frozenset({"postgresql", "postgres"})
"""The second is what many providers write."""
Driver = Literal["psycopg", "asyncpg"]
CONNECTION = {
    "connect_timeout": 5,
    # A server that went away during a call is noticed within seconds.
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
"""What libpq is told besides an address."""
_DEFAULT_PORT = 5432
# Every account may ask for these. Two servers do not start in the same microsecond.
_IDENTITY = """
    SELECT pg_postmaster_start_time() || ' ' || oid
    FROM pg_database WHERE datname = current_database()
"""


def postgresql_address(setting: str, address: str, driver: Driver) -> str:
    """The address with its driver, as SQLAlchemy takes it. It holds the password.

    `OperationError` where the setting is no address of PostgreSQL.
    """
    url = parse_postgresql(setting, address).set(drivername=f"postgresql+{driver}")
    # asyncpg has its own name for this parameter of libpq.
    if driver == "asyncpg" and "sslmode" in url.query:
        mode = url.query["sslmode"]
        url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
    return url.render_as_string(hide_password=False)


def parse_postgresql(setting: str, address: str) -> sa.URL:
    """The parts of an address; `OperationError` where it is none of PostgreSQL."""
    try:
        parsed = sa.make_url(address)
    # Without the cause, whose text quotes the address with its password.
    except (sa.exc.ArgumentError, ValueError):
        raise OperationError(
            f"{setting} is not the URL of a database."
            " Write postgresql://USER@HOST/NAME."
        ) from None
    # The driver is ours to choose, whatever stands behind the +.
    dialect = parsed.drivername.partition("+")[0]
    # Without a name libpq takes the database that is called as the account is.
    if dialect not in NAMES or not parsed.database:
        raise OperationError(
            f"{setting} names no database of PostgreSQL ({shown(address)})."
            " Write postgresql://USER@HOST/NAME."
        )
    if is_ambiguous(parsed):
        raise OperationError(
            f"{setting} cannot be understood: in a password @ is written %40,"
            " and % is written %25. Write it so."
        )
    return parsed


def is_ambiguous(parsed: sa.URL) -> bool:
    """Whether an @ in a password that is not escaped made its end part of the host."""
    has_stray_at = "@" in f"{parsed.host}{parsed.database}"
    plain = parsed.render_as_string(hide_password=True)
    return has_stray_at or shown(plain).endswith(NOT_SHOWN)


def is_same_database(one: sa.URL, other: sa.URL) -> bool:
    """Whether two addresses lead to one database, whoever logs in."""
    return _place(one) == _place(other)


def _place(url: sa.URL) -> tuple[object, ...]:
    # A socket's folder stands in the query, where libpq looks first.
    host = url.query.get("host", url.host)
    return host, url.port or _DEFAULT_PORT, url.database


def public_place(address: str) -> str:
    """An address without its login and driver, as people may see it."""
    return shown(address).replace("postgresql+psycopg://", "postgresql://", 1)


def engine_of(address: str) -> sa.Engine:
    """An engine whose every use is a connection of its own."""
    return sa.create_engine(address, poolclass=NullPool, connect_args=CONNECTION)


def check_database(
    setting: str, address: str, is_own: Callable[[set[str]], bool]
) -> str:
    """Check that a database answers, and that `is_own` accepts the names of its tables.

    Gives what is equal for two addresses of one database alone, however they name its host.
    `OperationError` where it does not: two programs in one database would share `alembic_version`.
    """
    url = postgresql_address(setting, address, "psycopg")
    place = public_place(url)
    try:
        with engine_of(url).connect() as connection:
            tables = set(sa.inspect(connection).get_table_names())
            identity = connection.execute(sa.text(_IDENTITY)).scalar()
    except ModuleNotFoundError as error:
        raise OperationError(
            f"{setting} needs psycopg, which is not installed."
            " Install the extra `postgres`."
        ) from error
    except sa.exc.SQLAlchemyError as error:
        raise OperationError(
            f"{place} does not answer ({driver_fact(error)}). Start PostgreSQL, make the database"
            f" with `createdb`, or correct {setting}."
        ) from error
    if tables and not is_own(tables):
        raise OperationError(
            f"{place} holds tables of another program, as {min(tables)}."
            f" Have {setting} lead to a database of its own."
        )
    return str(identity)


def find_silence(address: str) -> str | None:
    """Why a database does not answer, within seconds; None where it does."""
    try:
        with engine_of(address).connect():
            return None
    except ModuleNotFoundError:
        return "psycopg is not installed: install the extra `postgres`"
    except sa.exc.SQLAlchemyError as error:
        return driver_fact(error)


def driver_fact(error: Exception) -> str:
    """The fact of a driver's error: what follows its first line quotes rows."""
    # SQLAlchemy keeps the driver's own error, where there is one.
    own = getattr(error, "orig", None)
    return first_line(own or error)
