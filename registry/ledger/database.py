"""Where the ledger's rows lie: one SQLite file or a PostgreSQL database, and every fault of theirs as one sentence."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from core.address import NOT_SHOWN, shown
from core.errors import BrokenLedger, LedgerError

_FILE = "sqlite:///"
_NAMES_OF_POSTGRESQL = {"postgresql", "postgres"}
"""The second is what many providers write."""
_MODE = Literal["ro", "rw", "rwc"]
_POSTGRESQL = {
    "connect_timeout": 5,
    # A server that went away in mid-sentence is noticed within seconds.
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "options": "-c statement_timeout=10000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=30000",
}


class Database:
    """A database by its URL. Every use is a connection and a transaction of its own, so that processes and threads may share it."""

    def __init__(self, url: str, mode: _MODE = "rw", patience: float = 10.0) -> None:
        """`patience`: seconds that a writer waits for the one before it. `mode` is SQLite's: only `rwc` makes a file."""
        self._url = _parsed(url)
        self._patience = patience
        self.path = (
            Path(self._url.database or "") if self._url.drivername == "sqlite" else None
        )
        self.engine = (
            self._postgresql() if self.path is None else self._sqlite(self.path, mode)
        )

    @property
    def name(self) -> str:
        """What a message calls it: the file, or the URL without its password."""
        return (
            str(self.path)
            if self.path is not None
            else shown(self._url.render_as_string(hide_password=True))
        )

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One consistent view."""
        with self._sentences(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """All or nothing: committed at the end, and on the disk then."""
        with (
            self._sentences(),
            self.engine.execution_options(
                begin="BEGIN IMMEDIATE"
            ).begin() as connection,
        ):
            yield connection

    def scrub(self) -> None:
        """Leave nothing of what was deleted in the write-ahead log either, where no reader is in the way."""
        if self.path is not None:
            with (
                self._sentences(),
                closing(self._connect(self.path, "rw")) as connection,
            ):
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _postgresql(self) -> sa.Engine:
        return sa.create_engine(self._url, poolclass=NullPool, connect_args=_POSTGRESQL)

    def _sqlite(self, path: Path, mode: _MODE) -> sa.Engine:
        engine = sa.create_engine(
            "sqlite://", creator=lambda: self._connect(path, mode), poolclass=NullPool
        )

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            # BEGIN IMMEDIATE takes a writer's turn at once: one that reads first and writes then could not wait for it.
            connection.exec_driver_sql(
                connection.get_execution_options().get("begin", "BEGIN")
            )

        return engine

    def _connect(self, path: Path, mode: _MODE) -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        if mode == "ro" and not path.with_name(f"{path.name}-wal").exists():
            uri = _still(path, uri)
        connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=self._patience,
            isolation_level=None,
            check_same_thread=False,
        )
        # Bytes that are no text must be found by whoever verifies the row, not end the reading of all rows.
        connection.text_factory = lambda raw: raw.decode(errors="backslashreplace")
        if mode == "rwc":
            connection.execute("PRAGMA journal_mode=WAL")
        # In WAL mode less than FULL may lose the last entries when the machine stops.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        return connection

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            raise self._sentence(error) from error

    def _sentence(self, error: Exception) -> LedgerError:
        fact = (
            str(getattr(error, "orig", error)).strip().splitlines()
            or [type(error).__name__]
        )[0]
        for words, make, sentence in _FAULTS:
            if any(word in fact for word in words):
                return make(sentence.format(name=self.name, patience=self._patience))
        return LedgerError(
            f"The ledger {self.name} is out of reach ({fact}). Start its database, or correct ASSAY_LEDGER_URL."
        )


_FAULTS: tuple[tuple[tuple[str, ...], type[LedgerError], str], ...] = (
    (
        ("is locked", "lock timeout", "statement timeout"),
        LedgerError,
        "The ledger {name} is locked by another writer for over {patience:.0f} s. Find what holds it, end that, and try again.",
    ),
    (
        ("readonly", "read-only"),
        LedgerError,
        "The ledger {name} is read-only. Let the user that runs Assay write the database and its folder.",
    ),
    (
        ("is full", "disk I/O error", "No space left"),
        LedgerError,
        "The disk of the ledger {name} is full or fails: nothing was written. Make room, and try again.",
    ),
    (
        ("not a database", "malformed"),
        BrokenLedger,
        "The ledger {name} is damaged: the database cannot read its own file. Restore it from a backup or an export.",
    ),
    (
        ("no such table", "does not exist", "unable to open"),
        LedgerError,
        "There is no ledger at {name}, or it cannot be opened. `assay up` makes one; check the path and its permissions.",
    ),
)


def _still(path: Path, uri: str) -> str:
    """In a folder that is read-only SQLite cannot make what reading WAL needs; without a WAL file there is no writer to wait for."""
    return uri if os.access(path.parent, os.W_OK) else f"{uri}&immutable=1"


def _parsed(url: str) -> sa.URL:
    if url.startswith(_FILE) and len(url) > len(_FILE):
        return sa.URL.create(
            "sqlite", database=url.removeprefix(_FILE)
        )  # whatever letters a folder has, they are its name
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise LedgerError(
            "ASSAY_LEDGER_URL is not the URL of a database. Write sqlite:////PATH or postgresql://USER@HOST/NAME."
        ) from None
    if parsed.drivername.partition("+")[0] not in _NAMES_OF_POSTGRESQL:
        raise LedgerError(
            f"The ledger cannot lie at {shown(url)}. Give a SQLite file or PostgreSQL."
        )
    # An @ in a password that is not escaped makes its end part of the host.
    if "@" in f"{parsed.host}{parsed.database}" or shown(
        parsed.render_as_string(hide_password=True)
    ).endswith(NOT_SHOWN):
        raise LedgerError(
            "ASSAY_LEDGER_URL cannot be understood: in a password @ is written %40, and % is written %25. Write it so."
        )
    return parsed.set(drivername="postgresql+psycopg")
