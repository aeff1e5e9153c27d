"""The database of the ledger's rows: one SQLite file or PostgreSQL.

Every fault of either is one sentence.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from core.address import shown
from core.errors import BrokenLedger, LedgerError
from registry.postgresql import CONNECTION, NAMES, is_ambiguous

_FILE = "sqlite:///"
_Mode = Literal["ro", "rw", "rwc"]
_POSTGRESQL = {
    **CONNECTION,
    "options": "-c statement_timeout=10000 -c lock_timeout=10000"
    " -c idle_in_transaction_session_timeout=30000",
}


class Database:
    """A database by its URL.

    Every use is a connection and a transaction of its own, so that processes and threads may share
    it.
    """

    def __init__(self, url: str, mode: _Mode = "rw", patience: float = 10.0) -> None:
        """`patience`: seconds that a writer waits for the one before it.

        `mode` is SQLite's: only `rwc` makes a file. `LedgerError` where the URL names no database.
        """
        self._url = _parse_url(url)
        self._patience = patience
        self.path: Path | None = None
        if self._url.drivername == "sqlite":
            self.path = Path(self._url.database or "")
            self.engine = self._create_sqlite(self.path, mode)
        else:
            self.engine = self._create_postgresql()

    @property
    def name(self) -> str:
        """What a message calls it: the file, or the URL without its password."""
        if self.path is not None:
            return str(self.path)
        address = self._url.render_as_string(hide_password=True)
        return shown(address)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection with one consistent view; `LedgerError` where the database fails."""
        with self._translate_faults(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes all or nothing; after its end it is on the disk.

        `LedgerError` where the database fails.
        """
        writer = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        with self._translate_faults(), writer.begin() as connection:
            yield connection

    def scrub(self) -> None:
        """Remove what was deleted from the write-ahead log too, unless a reader is using it."""
        if self.path is None:
            return
        with self._translate_faults(), closing(self._connect(self.path, "rw")) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _create_postgresql(self) -> sa.Engine:
        try:
            return sa.create_engine(
                self._url,
                # A pooled connection would be shared with a child process after a fork.
                poolclass=NullPool,
                connect_args=_POSTGRESQL,
            )
        except ImportError as error:
            raise LedgerError(
                "PostgreSQL's client is not installed. Install the extra: assay[postgres]."
            ) from error

    def _create_sqlite(self, path: Path, mode: _Mode) -> sa.Engine:
        def connect() -> sqlite3.Connection:
            return self._connect(path, mode)

        engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool)

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            # BEGIN IMMEDIATE takes a writer's turn at once: one that reads first and writes
            # then could not wait for it.
            options = connection.get_execution_options()
            connection.exec_driver_sql(options.get("begin", "BEGIN"))

        return engine

    def _connect(self, path: Path, mode: _Mode) -> sqlite3.Connection:
        # A URI, since only it can say that no file is to be made.
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        if mode == "ro" and not path.with_name(f"{path.name}-wal").exists():
            uri = _without_wal(path, uri)
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=self._patience,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _set_up(connection, mode)
        except BaseException:
            # A file that is no database: nobody else would close it.
            connection.close()
            raise
        return connection

    @contextmanager
    def _translate_faults(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise self._describe_fault(error) from error

    def _describe_fault(self, error: Exception) -> LedgerError:
        # Only the first line: what follows quotes the statement and its parameters.
        lines = str(getattr(error, "orig", error)).strip().splitlines()
        fact = lines[0] if lines else type(error).__name__
        for words, error_type, sentence in _FAULTS:
            if any(word in fact for word in words):
                text = sentence.format(
                    name=self.name, patience=self._patience, fact=fact
                )
                return error_type(text)
        return LedgerError(
            f"The ledger {self.name} is unreachable ({fact})."
            " Start its database, or correct ASSAY_LEDGER_URL."
        )


# Words of SQLite and psycopg, the error that they mean, and its sentence; the first match counts.
_FAULTS: tuple[tuple[tuple[str, ...], type[LedgerError], str], ...] = (
    (
        ("is locked", "lock timeout", "statement timeout"),
        LedgerError,
        (
            "The ledger {name} is locked by another writer for over {patience:.0f} s."
            " Find what holds it, end that, and try again."
        ),
    ),
    (
        ("readonly", "read-only"),
        LedgerError,
        (
            "The ledger {name} is read-only."
            " Let the user that runs Assay write the database and its folder."
        ),
    ),
    (
        ("is full", "disk I/O error", "No space left"),
        LedgerError,
        (
            "The disk of the ledger {name} is full or fails: nothing was written."
            " Make room, and try again."
        ),
    ),
    (
        ("not a database", "malformed"),
        BrokenLedger,
        (
            "The ledger {name} is damaged: the database cannot read its own file."
            " Restore it from a backup or an export."
        ),
    ),
    (
        (
            "authentication failed",
            "no password supplied",
            "no pg_hba.conf entry",
            'role "',
        ),
        LedgerError,
        (
            "The ledger {name} does not know this login ({fact})."
            " Correct user and password in ASSAY_LEDGER_URL."
        ),
    ),
    (
        ("permission denied", "must be owner"),
        LedgerError,
        (
            "The ledger {name} does not let this account do that ({fact})."
            " Ask its owner for the right, or use another account."
        ),
    ),
    (
        ("certificate", "SSL error", "support SSL", "SSL negotiation"),
        LedgerError,
        (
            "The ledger {name} has no connection by TLS ({fact})."
            " Correct sslmode and sslrootcert in ASSAY_LEDGER_URL, or its host and port."
        ),
    ),
    (
        ("no such table", "does not exist", "unable to open"),
        LedgerError,
        (
            "There is no ledger at {name}, or it cannot be opened."
            " `assay up` makes one; check the path and its permissions."
        ),
    ),
)


def _set_up(connection: sqlite3.Connection, mode: _Mode) -> None:
    """Say how texts are read, and how entries reach the disk."""
    # Bytes that are no text must be found by whoever verifies the row, not end the reading
    # of all rows.
    connection.text_factory = lambda raw: raw.decode(errors="backslashreplace")
    # WAL lets readers go on while somebody writes. It is a property of the file, set once.
    if mode == "rwc":
        connection.execute("PRAGMA journal_mode=WAL")
    # In WAL mode less than FULL may lose the last entries when the machine stops.
    connection.execute("PRAGMA synchronous=FULL")
    # An erased reason must not be left in free pages of the file.
    connection.execute("PRAGMA secure_delete=ON")


def _without_wal(path: Path, uri: str) -> str:
    """The URI of a SQLite file beside which there is no write-ahead log."""
    if os.access(path.parent, os.W_OK):
        return uri
    # In a read-only folder SQLite cannot make what reading a log needs, and without a log there
    # is no writer to wait for.
    return f"{uri}&immutable=1"


def _parse_url(url: str) -> sa.URL:
    if url != url.strip("'\" \t\r\n"):
        raise LedgerError(
            "ASSAY_LEDGER_URL begins or ends with a quote or a space. Write it without."
        )
    if url.startswith(_FILE) and len(url) > len(_FILE):
        # Whatever letters a folder has, they are its name.
        return sa.URL.create("sqlite", database=url.removeprefix(_FILE))
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise LedgerError(
            "ASSAY_LEDGER_URL is not the URL of a database."
            " Write sqlite:////PATH or postgresql://USER@HOST/NAME."
        ) from None
    driver = parsed.drivername.partition("+")[0]
    if driver not in NAMES:
        raise LedgerError(
            f"The ledger cannot be kept at {shown(url)}. Give a SQLite file or PostgreSQL."
        )
    if is_ambiguous(parsed):
        raise LedgerError(
            "ASSAY_LEDGER_URL cannot be understood: in a password @ is written %40,"
            " and % is written %25. Write it so."
        )
    # psycopg 3 is the only driver that is installed.
    return parsed.set(drivername="postgresql+psycopg")
