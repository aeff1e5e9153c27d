"""The ledger: signed entries that are only ever added, in SQLite or PostgreSQL. Whoever writes names the standing that he knows.

Compare and swap is the primary key: of two that write the same generation, one is told `StaleGeneration`.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from core.errors import (
    BrokenLedger,
    DamagedFile,
    IllegalEntry,
    LedgerError,
    StaleGeneration,
)
from core.files import write_text
from core.home import closed_to_us, make_home
from core.locks import exclusive, ledger_lock
from core.settings import Settings
from core.value import first_problem
from registry.ledger.chain import (
    body_text,
    broken,
    check_remembered,
    follow,
    signed_entry,
)
from registry.ledger.database import Database
from registry.ledger.entries import Body, Entry, Opened, canonical_time
from registry.ledger.heads import (
    Told,
    keep_record,
    memory_file,
    read_elsewhere,
    read_record,
    record_file,
    trusted_keys,
)
from registry.ledger.keys import SigningKey, create_key, load_key
from registry.ledger.rules import check_next
from registry.ledger.state import LedgerState

SCHEMA = "0001"
"""The newest version in `registry/migrations`."""
LONGEST_TEXT = 1_000_000
ACCEPT = "Restore it from a backup or an export; what is lost for good is accepted with `assay audit accept-head --reason …`."
_OPENING = 0x6173736179  # "assay": under this lock one machine at a time opens a ledger in PostgreSQL
_ENTRIES = sa.table(
    "entries",
    *(
        sa.column(name)
        for name in (
            "generation",
            "at",
            "kind",
            "body",
            "previous",
            "key_id",
            "hash",
            "signature",
        )
    ),
)
_TEXTS = sa.table("texts", sa.column("sha256"), sa.column("text"))


def now() -> datetime:
    """What the clock of this machine says, in UTC."""
    return datetime.now(UTC)


class Ledger:
    """The ledger of one home, read and written with that home's key. Every call is a connection of its own: threads may share it."""

    def __init__(
        self, home: Path, database: Database, clock: Callable[[], datetime] = now
    ) -> None:
        """`clock` gives the time of an entry; one that goes back does no harm."""
        self.home = home
        self.database = database
        self.clock = clock
        self._ledger_state: LedgerState | None = None

    def entries(self, after: int = 0) -> tuple[Entry, ...]:
        """The rows behind that generation as entries, in order: they parse, and nothing more is verified."""
        return tuple(self.each_entry(after))

    def each_entry(self, after: int = 0) -> Iterator[Entry]:
        """The same, parsed one by one: who verifies on the way finds the first bad entry, not the first that does not parse."""
        wanted = sa.select(_ENTRIES).order_by(_ENTRIES.c.generation)
        if (
            after > 0
        ):  # from the beginning on a row that somebody put before entry 1 is found, too
            wanted = wanted.where(_ENTRIES.c.generation > after)
        with self.database.reading() as connection:
            rows = connection.execute(wanted).all()
        return map(_entry, rows)

    def follow(self, remembered: LedgerState | None) -> LedgerState:
        """How things stand now, by verifying what came after a standing that somebody remembers.

        `BrokenLedger` where the ledger does not hold what is remembered: its tail was cut, an old copy was put back, or it is another one.
        Where an entry of it accepts that loss, it counts as it is.
        """
        if remembered is None:
            return follow(None, self.each_entry())
        try:
            return self._follow(remembered)
        except BrokenLedger:
            with suppress(BrokenLedger, IllegalEntry):
                whole = follow(None, self.each_entry())
                if remembered.head.hash in whole.accepted:
                    return whole
            raise

    def _follow(self, remembered: LedgerState) -> LedgerState:
        found = self.each_entry(after=remembered.head.generation - 1)
        check_remembered(remembered.head, next(found, None))
        return follow(remembered, found)

    def state(self) -> LedgerState:
        """How things stand, every entry verified; what this object verified before is not verified again."""
        self._ledger_state = self.follow(self._ledger_state)
        return self._ledger_state

    def append(self, body: Body, expected: LedgerState) -> LedgerState:
        """Sign and write one entry on top of `expected`, and give what stands then.

        `IllegalEntry` where it does not follow, `StaleGeneration` where somebody wrote first,
        `LedgerError` where it has no canonical JSON: nothing was written then.
        """
        at = max(self.clock(), expected.at)
        check_next(expected, body, at)
        key = self._trusted_key(expected)
        entry = signed_entry(body, at, expected, key)
        result = follow(expected, (entry,))
        self._check_record(result)
        try:
            self._insert(entry)
        except StaleGeneration:
            raise
        except LedgerError:
            if not self._holds(
                entry
            ):  # the answer to a commit can be lost after the commit
                raise
        keep_record(self.home, expected, result, key)
        return result

    def check_holds(self, generation: int, digest: str, where: str) -> None:
        """`BrokenLedger` where another entry than the one that `where` remembers stands there, or none."""
        with self.database.reading() as connection:
            wanted = sa.select(_ENTRIES.c.hash).where(
                _ENTRIES.c.generation == generation
            )
            found = connection.execute(wanted).scalar()
        if found is None:
            raise BrokenLedger(
                f"Entry {generation} is gone, though {where} remembers it: the ledger's tail was cut off or an old copy was put back."
                f" {ACCEPT}"
            )
        if found != digest:
            raise BrokenLedger(
                f"Entry {generation} is another one than {where} remembers: this is another ledger, or one that was written anew. {ACCEPT}"
            )

    def remember(self, text: str) -> str:
        """Keep a reason beside the ledger, where it can be erased; gives the SHA-256 that entries name it by."""
        _check_reason(text)
        with self.database.writing() as connection:
            return _keep(connection, text)

    def recall(self, sha256: str) -> str | None:
        """The reason of that digest; None where it was erased."""
        with self.database.reading() as connection:
            row = connection.execute(
                sa.select(_TEXTS).where(_TEXTS.c.sha256 == sha256)
            ).first()
        return None if row is None else check_text(row.sha256, str(row.text))

    def texts(self) -> dict[str, str]:
        """Every reason that is kept, by its digest, as it is kept: `recall` and the audit look whether it was edited."""
        with self.database.reading() as connection:
            return {
                str(row.sha256): str(row.text)
                for row in connection.execute(sa.select(_TEXTS))
            }

    def erase(self, sha256: str) -> None:
        """Remove a reason for good; the entries that name its digest stay whole. PostgreSQL overwrites the bytes when it vacuums."""
        with self.database.writing() as connection:
            if (
                connection.execute(
                    sa.delete(_TEXTS).where(_TEXTS.c.sha256 == sha256)
                ).rowcount
                == 0
            ):
                raise LedgerError(
                    f"The ledger keeps no reason {sha256}. `assay history --json` names those that it keeps."
                )
        self.database.scrub()

    def _check_record(self, result: LedgerState) -> None:
        """Nothing is written on top of a ledger that is shorter than what this home remembers of it."""
        told: list[Told] = []
        # Of what is damaged an alarm says it, and a brake must not wait for whoever mends it.
        with suppress(DamagedFile, OSError):
            told += read_elsewhere(self.home)
        with suppress(DamagedFile, OSError):
            sealed = read_record(self.home)
            told += (
                []
                if sealed is None
                else [Told(where=str(record_file(self.home)), sealed=sealed)]
            )
        trusted = trusted_keys(self.home, result)
        known = [
            each
            for each in told
            if each.sealed.record.head.hash not in result.accepted
            and each.sealed.is_by(trusted)
        ]
        furthest = max(
            known, key=lambda each: each.sealed.record.head.generation, default=None
        )
        if furthest is not None:
            head = furthest.sealed.record.head
            self.check_holds(head.generation, head.hash, furthest.where)

    def _trusted_key(self, expected: LedgerState) -> SigningKey:
        key = load_key(self.home)
        if expected.key(key.public.key_id) is None:
            raise LedgerError(
                f"This machine's key {key.public.key_id[:12]} is not one that the ledger trusts."
                f" Put the ledger's own back into {self.home / 'keys'}, from a backup."
            )
        return key

    def _insert(self, entry: Entry) -> None:
        with self.database.writing() as connection:
            last = connection.execute(
                sa.select(_ENTRIES.c.generation, _ENTRIES.c.hash)
                .order_by(_ENTRIES.c.generation.desc())
                .limit(1)
            ).first()
            if last is None or last.generation < entry.generation - 1:
                raise BrokenLedger(
                    f"The ledger ends at entry {0 if last is None else last.generation}, but entry {entry.generation - 1} was there before."
                    " Its tail was cut off or an old copy was put back: restore it from a backup or an export."
                )
            if (last.generation, last.hash) != (entry.generation - 1, entry.previous):
                raise _stale(entry)
            try:
                connection.execute(sa.insert(_ENTRIES).values(**_row(entry)))
            except sa.exc.IntegrityError as error:
                raise _stale(entry) from error

    def _holds(self, entry: Entry) -> bool:
        with suppress(LedgerError):
            return any(
                each.hash == entry.hash
                for each in self.entries(after=entry.generation - 1)[:1]
            )
        return False


def ledger_url(home: Path) -> str:
    """Where the ledger is: ASSAY_LEDGER_URL, else a SQLite file of the home's own."""
    return Settings().ledger_url or f"sqlite:///{home / 'ledger.db'}"


def open_ledger(home: Path, clock: Callable[[], datetime] = now) -> Ledger:
    """The ledger for writing; database, key and opening entry are made where there never were any.

    One that was there and is gone is `BrokenLedger`: a new one would know of no revocation.
    """
    ledger = Ledger(home, Database(ledger_url(home)), clock)
    _check_readable(ledger)
    try:
        if not _is_open(ledger):
            make_home(home)
            with exclusive(ledger_lock(home)):
                _make_open(ledger)
        if not _mark(home).is_file():
            write_text(_mark(home), "")
    except OSError as error:
        raise LedgerError(
            f"The ledger cannot be made in {home} ({error.strerror}). Give a folder that can be written."
        ) from error
    return ledger


def read_ledger(home: Path) -> Ledger:
    """The ledger for reading alone: nothing is made. `LedgerError` where there is none, and it says whether there was."""
    ledger = Ledger(home, Database(ledger_url(home), mode="ro"))
    _check_readable(ledger)
    if not _has_entry(ledger):
        not_yet = f"There is no ledger at {ledger.database.name} yet. `assay up` opens one; check the path and its permissions."
        raise LedgerError(_lost(ledger) or not_yet)
    return ledger


def ever_was(home: Path) -> bool:
    """A ledger is there or was: `read_ledger` says which. A key alone says nothing, since it is made just before the opening entry."""
    return (
        bool(Settings().ledger_url)
        or (home / "ledger.db").exists()
        or bool(_traces(home))
    )


def _check_readable(ledger: Ledger) -> None:
    """Another account is not told that there is no ledger, where it may only not look."""
    why = None if ledger.database.path is None else closed_to_us(ledger.database.path)
    if why is not None:
        raise LedgerError(
            f"The ledger is not yours to read: {why}. Ask that account, or set ASSAY_HOME to a home of your own."
        )


def fill_ledger(home: Path, entries: Sequence[Entry], texts: Iterable[str]) -> Ledger:
    """An empty ledger with entries that are there already, verified, and their reasons: all of them or none.

    One outside of the home may hold exactly these: a restore that was cut short after this filled it.
    """
    follow(None, entries)
    rows = [_row(entry) for entry in entries]
    ledger = Ledger(home, Database(ledger_url(home)))
    make_home(home)
    with exclusive(ledger_lock(home)), _migrated(ledger) as connection:
        there = [
            dict(row)
            for row in connection.execute(
                sa.select(_ENTRIES).order_by(_ENTRIES.c.generation)
            ).mappings()
        ]
        if there == rows:
            return (
                ledger  # its reasons came with them, and what was erased since stays so
            )
        if there:
            raise LedgerError(
                f"The ledger {ledger.database.name} has other entries already. Restore into an empty home."
            )
        connection.execute(sa.insert(_ENTRIES), rows)
        for text in texts:
            _keep(connection, text)
    return ledger


def check_text(sha256: str, text: str) -> str:
    """The text, if it is what its digest names."""
    if hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest() != sha256:
        raise BrokenLedger(
            f"The reason {sha256[:12]} was edited. Erase it with `assay audit erase {sha256}`, or put it back from an export."
        )
    return text


def _check_reason(text: str) -> None:
    if not text.strip():
        raise LedgerError("The reason is empty. Say in a few words why.")
    if (
        len(text) > LONGEST_TEXT
        or "\0" in text
        or any("\ud800" <= letter <= "\udfff" for letter in text)
    ):
        raise LedgerError(
            f"The reason holds a NUL, half a character, or over {LONGEST_TEXT} characters. Write it in plain text."
        )


def _is_open(ledger: Ledger) -> bool:
    """Tables, version and opening entry are there; asked in a writer's transaction, so that a read-only ledger says so now."""
    if _has_no_file(ledger):
        return False
    with ledger.database.writing() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return False
        version = connection.execute(
            sa.text("SELECT version_num FROM alembic_version")
        ).scalar()
        return version == SCHEMA and not _is_empty(connection)


def _has_entry(ledger: Ledger) -> bool:
    """There is one, whole or not; asked without making anything."""
    if _has_no_file(ledger):
        return False
    with ledger.database.reading() as connection:
        return sa.inspect(connection).has_table(_ENTRIES.name) and not _is_empty(
            connection
        )


def _is_empty(connection: sa.Connection) -> bool:
    return connection.execute(sa.select(_ENTRIES.c.generation).limit(1)).first() is None


def _has_no_file(ledger: Ledger) -> bool:
    return ledger.database.path is not None and not ledger.database.path.is_file()


def _mark(home: Path) -> Path:
    """Lies beside the key once a ledger was opened with it."""
    return home / "keys" / "opened"


def _traces(home: Path) -> tuple[Path, ...]:
    """What outlives a ledger that was here."""
    own = (_mark(home), memory_file(home), record_file(home))
    return tuple(
        path
        for path in (*own, *sorted((home / "exports").glob("*.jsonl")))
        if path.is_file()
    )


def _lost(ledger: Ledger) -> str | None:
    """That there was one; None where nothing says so. Asked where there is no entry."""
    home = ledger.home
    traces = _traces(home)
    if not traces:
        return None
    return (
        f"There was a ledger here ({traces[0]} says so), and {ledger.database.name} holds none. Restore it with `assay restore`. To begin a"
        f" new one, which forgets every revocation, move {home / 'keys'}, {home / 'endpoint'} and {home / 'exports'} away first."
    )


def _check_not_lost(ledger: Ledger) -> None:
    lost = _lost(ledger)
    if lost is not None:
        raise BrokenLedger(lost)


def _make_open(ledger: Ledger) -> None:
    if _has_no_file(ledger):
        _check_not_lost(ledger)  # before an empty file takes its place
    with _migrated(ledger) as connection:
        if _is_empty(connection):
            _check_not_lost(ledger)
            # The key is made first: a ledger never waits for a key that nobody has.
            key = create_key(ledger.home)
            opening = signed_entry(
                Opened(ledger_id=secrets.token_hex(16), key=key.public),
                ledger.clock(),
                None,
                key,
            )
            connection.execute(sa.insert(_ENTRIES).values(**_row(opening)))


@contextmanager
def _migrated(ledger: Ledger) -> Iterator[sa.Connection]:
    """A writer's transaction in which the tables are there and of this version."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={})
    config.set_main_option(
        "script_location",
        str(Path(__file__).with_name("migrations")).replace("%", "%%"),
    )
    config.set_main_option("path_separator", "os")
    with Database(ledger_url(ledger.home), mode="rwc").writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_OPENING)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise LedgerError(
                f"The ledger {ledger.database.name} was written by a newer Assay ({error}). Install that one."
            ) from error
        yield connection


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "generation": entry.generation,
        "at": canonical_time(entry.at),
        "kind": entry.body.kind,
        "body": body_text(entry),
        "previous": entry.previous,
        "key_id": entry.key_id,
        "hash": entry.hash,
        "signature": entry.signature,
    }


def _entry(row: sa.Row[Any]) -> Entry:
    """The entry that a row holds, and that gives the very same row again."""
    columns = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's own public name for it
    try:
        body = json.loads(columns["body"])
        entry = Entry.model_validate(
            {name: text for name, text in columns.items() if name != "kind"}
            | {"body": body}
        )
    except ValidationError as error:
        raise broken(
            row.generation, f"it is no entry ({first_problem(error)})"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise broken(row.generation, "its body is not JSON") from error
    if _row(entry) != columns:
        raise broken(
            row.generation, "it is not written as Assay writes, so it was edited"
        )
    return entry


def _keep(connection: sa.Connection, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    statement = sa.text(
        "INSERT INTO texts (sha256, text) VALUES (:sha256, :text) ON CONFLICT DO NOTHING"
    )
    connection.execute(statement, {"sha256": digest, "text": text})
    return digest


def _stale(entry: Entry) -> StaleGeneration:
    return StaleGeneration(
        f"Somebody else wrote entry {entry.generation} of the ledger first. Look at `assay history`, then try again."
    )
