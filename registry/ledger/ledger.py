"""The ledger: signed entries that are only ever added, in SQLite or PostgreSQL.

Whoever writes names the state that he knows. The primary key is compare and swap: of two that write
the same generation, one gets `StaleGeneration`.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from core.home import explain_no_access, make_home
from core.locks import exclusive, ledger_lock
from core.moved_records import COMMAND as MOVE
from core.moved_records import moved_file, read_moved
from core.settings import Settings
from core.value import first_problem
from registry.ledger.chain import (
    body_text,
    broken_entry,
    check_remembered,
    follow,
    signed_entry,
)
from registry.ledger.database import Database
from registry.ledger.entries import Body, Entry, Opened, Role, canonical_time
from registry.ledger.heads import (
    RemoteRecord,
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

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA = "0001"
"""The newest version in `registry/ledger/migrations`."""
# Characters; a reason is a few sentences, and more would be a document.
LONGEST_TEXT = 1_000_000
ACCEPT = (
    "Restore it from a backup or an export; what is lost for good is accepted with"
    " `assay audit accept-head --reason …`."
)
_OPENING = 0x6173736179
"""`assay` in ASCII: under this lock one machine at a time opens a ledger in PostgreSQL."""
_ENTRIES = sa.table(
    "entries",
    sa.column("generation"),
    sa.column("at"),
    sa.column("kind"),
    sa.column("body"),
    sa.column("previous"),
    sa.column("key_id"),
    sa.column("hash"),
    sa.column("signature"),
)
_GENERATION = _ENTRIES.c.generation
# Beside the entries and under no hash, so that a text can be erased.
_TEXTS = sa.table("texts", sa.column("sha256"), sa.column("text"))
TABLES = frozenset({"entries", "texts", "alembic_version"})
"""The names of all tables of a ledger's database."""


def now() -> datetime:
    """The time of this machine's clock, in UTC."""
    return datetime.now(UTC)


class Ledger:
    """The ledger of one home, read and written with that home's key.

    Every call is a connection of its own, so that threads may share the object.
    """

    def __init__(
        self,
        home: Path,
        database: Database,
        clock: Callable[[], datetime] = now,
        role: Role = "controller",
    ) -> None:
        """`clock` gives the time of an entry; one that goes back does no harm.

        `role` says with which of the home's keys entries are signed.
        """
        self.home = home
        self.database = database
        self.clock = clock
        self.role = role
        # A cache of what was verified: only later entries are verified at the next call.
        self._ledger_state: LedgerState | None = None

    def entries(self, after: int = 0) -> tuple[Entry, ...]:
        """The rows behind that generation as entries, in order.

        They parse, and nothing more is verified. `BrokenLedger` names the first that does not.
        """
        return tuple(self.iterate_entries(after))

    def iterate_entries(self, after: int = 0) -> Iterator[Entry]:
        """The rows behind that generation, parsed one by one.

        So whoever verifies on the way finds the first bad entry, not the first that does not parse.
        """
        query = sa.select(_ENTRIES).order_by(_GENERATION)
        # Without a condition a row that somebody put before entry 1 is found, too.
        if after > 0:
            query = query.where(_ENTRIES.c.generation > after)
        with self.database.reading() as connection:
            # All at once, so that no transaction stays open while the caller verifies.
            rows = connection.execute(query).all()
        return map(_parse_row, rows)

    def follow(self, remembered: LedgerState | None) -> LedgerState:
        """The state now, by verifying the entries after a state that somebody remembers.

        `BrokenLedger` where the ledger does not hold what is remembered: its tail was cut, an old
        copy was put back, or it is another one. Where an entry of it accepts that loss, it counts
        as it is.
        """
        if remembered is None:
            return follow(None, self.iterate_entries())
        try:
            return self._follow(remembered)
        except BrokenLedger:
            # The loss is accepted by an entry of the ledger itself, so all of it must verify.
            with suppress(BrokenLedger, IllegalEntry):
                whole = follow(None, self.iterate_entries())
                if remembered.head.hash in whole.accepted:
                    return whole
            raise

    def _follow(self, remembered: LedgerState) -> LedgerState:
        head = remembered.head
        entries = self.iterate_entries(after=head.generation - 1)
        entry = next(entries, None)
        check_remembered(head, entry)
        return follow(remembered, entries)

    def state(self) -> LedgerState:
        """The state now, every entry verified.

        What this object verified before is not verified again. `BrokenLedger` or `IllegalEntry`
        names the first bad entry.
        """
        ledger_state = self.follow(self._ledger_state)
        self._ledger_state = ledger_state
        return ledger_state

    @property
    def verified(self) -> LedgerState | None:
        """What this object verified last, whatever was done to the database since."""
        return self._ledger_state

    def append(self, body: Body, expected: LedgerState) -> LedgerState:
        """Sign and write one entry on top of `expected`, and give the state after it.

        `IllegalEntry` where it does not follow, `StaleGeneration` where somebody wrote first,
        `LedgerError` where it has no canonical JSON: nothing was written then.
        """
        # A clock that was set back must not make the ledger go back.
        at = max(self.clock(), expected.at)
        check_next(expected, body, at)
        # An entry that a foreign key signs would break the ledger for everybody.
        key = self._trusted_key(expected)
        entry = signed_entry(body, at, expected, key)
        result = follow(expected, (entry,))
        # After the rules and before the write: this is the last moment to notice a cut.
        self._check_records(result)
        try:
            self._insert(entry)
        # Somebody else wrote that generation, so the entry cannot be there.
        except StaleGeneration:
            raise
        except LedgerError:
            # The answer to a commit can be lost after the commit.
            if not self._holds(entry):
                raise
        # Last: a head record must never know more than the ledger holds. It is the controller's
        # alone: a key that only receives wishes must not vouch for revocations.
        if self.role == "controller":
            keep_record(self.home, expected, result, key)
        return result

    def check_holds(self, generation: int, digest: str, where: str) -> None:
        """Check that the ledger holds the entry that `where` remembers.

        `BrokenLedger` where another entry is in its place, or none.
        """
        query = sa.select(_ENTRIES.c.hash).where(_ENTRIES.c.generation == generation)
        with self.database.reading() as connection:
            actual = connection.execute(query).scalar()
        if actual is None:
            raise BrokenLedger(
                f"Entry {generation} is missing, though {where} remembers it: the ledger's tail"
                f" was cut off or an old copy was put back. {ACCEPT}"
            )
        if actual != digest:
            raise BrokenLedger(
                f"Entry {generation} is another one than {where} remembers: this is another"
                f" ledger, or one that was rewritten. {ACCEPT}"
            )

    def remember(self, text: str) -> str:
        """Keep a reason beside the ledger, where it can be erased.

        Gives the SHA-256 by which entries name it. `LedgerError` where the reason is empty, too
        long or not plain text.
        """
        # An entry would name it for good: what is unfit is kept nowhere.
        _check_reason(text)
        database = self.database
        with database.writing() as connection:
            return _keep_text(connection, text)

    def recall(self, sha256: str) -> str | None:
        """The reason of that digest; None where it was erased.

        `BrokenLedger` where it was edited.
        """
        query = sa.select(_TEXTS).where(_TEXTS.c.sha256 == sha256)
        with self.database.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return check_text(row.sha256, str(row.text))

    def texts(self) -> dict[str, str]:
        """Every reason by its digest, as it is kept.

        Whether one was edited is checked by `recall` and by the audit, not here.
        """
        texts = {}
        with self.database.reading() as connection:
            for row in connection.execute(sa.select(_TEXTS)):
                texts[str(row.sha256)] = str(row.text)
        return texts

    def erase(self, sha256: str) -> None:
        """Remove a reason for good; the entries that name its digest stay valid.

        PostgreSQL overwrites the bytes when it vacuums. `LedgerError` where no such reason is kept.
        """
        statement = sa.delete(_TEXTS).where(_TEXTS.c.sha256 == sha256)
        with self.database.writing() as connection:
            erased = connection.execute(statement).rowcount
            if erased == 0:
                raise LedgerError(
                    f"The ledger keeps no reason {sha256}."
                    " `assay history --json` names those that it keeps."
                )
        # The write-ahead log holds the text until it is emptied.
        self.database.scrub()

    def _check_records(self, result: LedgerState) -> None:
        """Write nothing on top of a ledger that is shorter than what this home remembers of it."""
        trusted = trusted_keys(self.home, result)
        furthest: RemoteRecord | None = None
        for record in self._read_records():
            sealed = record.sealed
            is_accepted_loss = sealed.record.head.hash in result.accepted
            if is_accepted_loss or not sealed.is_sealed_by(trusted):
                continue
            if furthest is None or sealed.generation > furthest.sealed.generation:
                furthest = record
        if furthest is not None:
            head = furthest.sealed.record.head
            self.check_holds(head.generation, head.hash, furthest.where)

    def _read_records(self) -> list[RemoteRecord]:
        """What this home remembers of the ledger, as far as it can be read."""
        records: list[RemoteRecord] = []
        # An alarm reports a damaged file, and a brake must not wait for its repair.
        with suppress(DamagedFile, OSError):
            records += read_elsewhere(self.home)
        with suppress(DamagedFile, OSError):
            sealed = read_record(self.home)
            if sealed is not None:
                where = str(record_file(self.home))
                records.append(RemoteRecord(where=where, sealed=sealed))
        return records

    def _trusted_key(self, expected: LedgerState) -> SigningKey:
        key = load_key(self.home, self.role)
        key_id = key.public.key_id
        if expected.key(key_id) != key.public:
            raise LedgerError(
                f"This machine's key {key_id[:12]} is not one that the ledger trusts."
                f" Put the ledger's own back into {self.home / 'keys'}, from a backup."
            )
        return key

    def _insert(self, entry: Entry) -> None:
        expected = entry.generation - 1
        with self.database.writing() as connection:
            # A move holds this lock until its mark is there: who waited for it comes too late.
            if self.database.path == self.home / "ledger.db":
                _check_not_moved(self.home)
            newest = connection.execute(_newest_entry()).first()
            end = 0 if newest is None else newest.generation
            if newest is None or end < expected:
                raise BrokenLedger(
                    f"The ledger ends at entry {end}, but entry {expected} was there before."
                    " Its tail was cut off or an old copy was put back:"
                    " restore it from a backup or an export."
                )
            # Compare: the state that the caller knew is no longer the last one.
            if (end, newest.hash) != (expected, entry.previous):
                raise _stale_generation(entry)
            try:
                connection.execute(sa.insert(_ENTRIES).values(**_row(entry)))
            # And swap: two writers inserted the same generation, and the primary key let one in.
            except sa.exc.IntegrityError as error:
                raise _stale_generation(entry) from error

    def _holds(self, entry: Entry) -> bool:
        with suppress(LedgerError):
            later = self.entries(after=entry.generation - 1)
            return bool(later) and later[0].hash == entry.hash
        return False


def _newest_entry() -> sa.Select[Any]:
    query = sa.select(_GENERATION, _ENTRIES.c.hash)
    newest_first = query.order_by(_GENERATION.desc())
    return newest_first.limit(1)


def ledger_url(home: Path) -> str:
    """The address of the ledger: ASSAY_LEDGER_URL, else a SQLite file of the home's own.

    `LedgerError` where that file was moved to PostgreSQL: what it lacks was entered there.
    """
    own = f"sqlite:///{home / 'ledger.db'}"
    address = Settings().ledger_url or own
    if address == own:
        _check_not_moved(home)
    return address


def _check_not_moved(home: Path) -> None:
    place = "PostgreSQL"
    try:
        moved = read_moved(home)
        if moved is None or moved.ledger is None:
            return
        place = moved.ledger
    # A mark that cannot be read is no reason to believe the old file.
    except DamagedFile:
        pass
    raise LedgerError(
        f"The ledger of {home} was moved to {place}, as {moved_file(home)} says."
        " Set ASSAY_LEDGER_URL to that database, with its login."
    )


def open_ledger(
    home: Path, clock: Callable[[], datetime] = now, role: Role = "controller"
) -> Ledger:
    """The ledger for writing; database, key and opening entry are made where there never were any.

    A ledger that was there and is missing is `BrokenLedger`, since a new one would know of no
    revocation. `LedgerError` where it cannot be read or made.
    """
    ledger = Ledger(home, Database(ledger_url(home)), clock, role)
    _check_readable(ledger)
    try:
        if not _is_open(ledger):
            make_home(home)
            with exclusive(ledger_lock(home)):
                _make_open(ledger)
        # From now on a missing ledger is a lost one.
        if not _mark_file(home).is_file():
            write_text(_mark_file(home), "")
    except OSError as error:
        raise LedgerError(
            f"The ledger cannot be made in {home} ({error.strerror})."
            " Give a folder that can be written."
        ) from error
    return ledger


def read_ledger(home: Path) -> Ledger:
    """The ledger for reading alone: nothing is made.

    `LedgerError` where there is none, and it says whether there was.
    """
    database = Database(ledger_url(home), mode="ro")
    ledger = Ledger(home, database)
    _check_readable(ledger)
    if not _has_entry(ledger):
        not_yet = (
            f"There is no ledger at {database.name} yet."
            " `assay up` opens one; check the path and its permissions."
        )
        raise LedgerError(_describe_loss(ledger) or not_yet)
    return ledger


def was_ever_opened(home: Path) -> bool:
    """Whether a ledger is there or was: `read_ledger` says which.

    A key alone says nothing, since it is made just before the opening entry.
    """
    if Settings().ledger_url or (home / "ledger.db").exists():
        return True
    return bool(_traces(home))


def is_still_to_be_made(home: Path) -> bool:
    """Whether there is no ledger and nothing in the home remembers one: the first run opens it.

    `LedgerError` where the database cannot be asked.
    """
    url = ledger_url(home)
    database = Database(url, mode="ro")
    ledger = Ledger(home, database)
    # A home that remembers a ledger has lost it: a new one would hide that.
    if _traces(home):
        return False
    return not _has_entry(ledger)


def _check_readable(ledger: Ledger) -> None:
    """Say to another account that it may not look, rather than that there is no ledger."""
    path = ledger.database.path
    why = None if path is None else explain_no_access(path)
    if why is not None:
        raise LedgerError(
            f"The ledger is not yours to read: {why}."
            " Ask that account, or set ASSAY_HOME to a home of your own."
        )


def fill_ledger(home: Path, entries: Sequence[Entry], texts: Iterable[str]) -> Ledger:
    """Fill an empty ledger with existing entries, verified, and their reasons: all or none.

    A ledger outside of the home may hold exactly these: an interrupted restore filled it.
    `BrokenLedger` or `IllegalEntry` names the first bad entry; `LedgerError` where the ledger holds
    others.
    """
    # Before anything is written: a broken export must not become a ledger.
    follow(None, entries)
    rows = [_row(entry) for entry in entries]
    ledger = Ledger(home, Database(ledger_url(home)))
    make_home(home)
    with exclusive(ledger_lock(home)), _migrated(ledger) as connection:
        query = sa.select(_ENTRIES).order_by(_GENERATION)
        existing = [dict(row) for row in connection.execute(query).mappings()]
        # A restore was interrupted after this and is repeated.
        if existing == rows:
            # Its reasons came with them, and what was erased since stays so.
            return ledger
        if existing:
            raise LedgerError(
                f"The ledger {ledger.database.name} has other entries already."
                " Give an empty home or an empty database."
            )
        connection.execute(sa.insert(_ENTRIES), rows)
        for text in texts:
            _keep_text(connection, text)
    return ledger


def check_text(sha256: str, text: str) -> str:
    """The text, if it is what its digest names; `BrokenLedger` where it is not."""
    # Of bytes that are no text the database gives escapes, and those hash to something else.
    raw = text.encode(errors="backslashreplace")
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise BrokenLedger(
            f"The reason {sha256[:12]} was edited."
            f" Erase it with `assay audit erase {sha256}`, or put it back from an export."
        )
    return text


def _check_reason(text: str) -> None:
    if not text.strip():
        raise LedgerError("The reason is empty. Say in a few words why.")
    # PostgreSQL keeps no NUL, and half a character (a surrogate) has no UTF-8.
    has_half_character = any("\ud800" <= letter <= "\udfff" for letter in text)
    if len(text) > LONGEST_TEXT or "\0" in text or has_half_character:
        raise LedgerError(
            f"The reason holds a NUL, half a character, or over {LONGEST_TEXT} characters."
            " Write it in plain text."
        )


def _is_open(ledger: Ledger) -> bool:
    """Whether tables, their version and the opening entry are there.

    Asked in a writer's transaction, so that a read-only ledger says so now.
    """
    if _has_no_file(ledger):
        return False
    with ledger.database.writing() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return False
        query = sa.text("SELECT version_num FROM alembic_version")
        version = connection.execute(query).scalar()
        # An older version is migrated, and an empty table was never opened.
        return version == SCHEMA and not _is_empty(connection)


def _has_entry(ledger: Ledger) -> bool:
    """Whether there is an entry, valid or not; asked without making anything."""
    if _has_no_file(ledger):
        return False
    with ledger.database.reading() as connection:
        has_table = sa.inspect(connection).has_table(_ENTRIES.name)
        return has_table and not _is_empty(connection)


def _is_empty(connection: sa.Connection) -> bool:
    query = sa.select(_GENERATION)
    row = connection.execute(query.limit(1)).first()
    return row is None


def _has_no_file(ledger: Ledger) -> bool:
    path = ledger.database.path
    return path is not None and not path.is_file()


def _mark_file(home: Path) -> Path:
    """A file beside the key that says that a ledger was opened with it."""
    return home / "keys" / "opened"


def _traces(home: Path) -> tuple[Path, ...]:
    """The files that outlive a ledger that was here."""
    folder = home / "exports"
    candidates = (
        _mark_file(home),
        memory_file(home),
        record_file(home),
        *sorted(folder.glob("*.jsonl")),
    )
    return tuple(path for path in candidates if path.is_file())


def _describe_loss(ledger: Ledger) -> str | None:
    """What to do about a ledger that was lost; None where nothing says that there was one.

    Asked where there is no entry.
    """
    home = ledger.home
    own = home / "ledger.db"
    if own.is_file() and ledger.database.path is None and not _has_moved(home):
        return (
            f"This home's ledger is {own}, and {ledger.database.name} holds none."
            f" `{MOVE}` takes it there; unset ASSAY_LEDGER_URL to go on with the file."
        )
    traces = _traces(home)
    if not traces:
        return None
    return (
        f"There was a ledger here ({traces[0]} says so), and {ledger.database.name} holds none."
        " Restore it with `assay restore`. To begin a new one, which forgets every revocation,"
        f" move {home / 'keys'}, {home / 'endpoint'} and {home / 'exports'} away first."
    )


def _has_moved(home: Path) -> bool:
    try:
        moved = read_moved(home)
    except DamagedFile:
        return True
    return moved is not None and moved.ledger is not None


def _check_not_lost(ledger: Ledger) -> None:
    loss = _describe_loss(ledger)
    if loss is not None:
        raise BrokenLedger(loss)


def _make_open(ledger: Ledger) -> None:
    # Before an empty file takes the place of a lost one.
    if _has_no_file(ledger):
        _check_not_lost(ledger)
    with _migrated(ledger) as connection:
        if not _is_empty(connection):
            return
        _check_not_lost(ledger)
        # The key is made first: a ledger never waits for a key that nobody has.
        key = create_key(ledger.home)
        body = Opened(ledger_id=secrets.token_hex(16), key=key.public)
        opening = signed_entry(body, ledger.clock(), None, key)
        connection.execute(sa.insert(_ENTRIES).values(**_row(opening)))


@contextmanager
def _migrated(ledger: Ledger) -> Iterator[sa.Connection]:
    """A writer's transaction in which the tables are there and of this version."""
    from alembic import command
    from alembic.util import CommandError

    config = _migration_config()
    database = Database(ledger_url(ledger.home), mode="rwc")
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            lock = sa.func.pg_advisory_xact_lock(_OPENING)
            # SQLite needs none: its writers wait for each other anyway.
            connection.execute(sa.select(lock))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise LedgerError(
                f"The ledger {ledger.database.name} was written by a newer Assay ({error})."
                " Install that one."
            ) from error
        yield connection


def _migration_config() -> "Config":
    from alembic.config import Config

    config = Config(attributes={})
    here = Path(__file__)
    folder = str(here.with_name("migrations"))
    # Alembic reads options as a configuration file does, where % begins a reference.
    escaped = folder.replace("%", "%%")
    config.set_main_option("script_location", escaped)
    config.set_main_option("path_separator", "os")
    return config


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


def _parse_row(row: sa.Row[Any]) -> Entry:
    """The entry that a row holds, and that gives the very same row again.

    `BrokenLedger` where it holds none.
    """
    columns = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's own public name for it
    fields = {name: value for name, value in columns.items() if name != "kind"}
    try:
        fields["body"] = json.loads(columns["body"])
        entry = Entry.model_validate(fields)
    except ValidationError as error:
        raise broken_entry(
            row.generation, f"it is no entry ({first_problem(error)})"
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise broken_entry(row.generation, "its body is not JSON") from error
    # Spaces, repeated keys and another kind beside the body would be under no hash.
    if _row(entry) != columns:
        raise broken_entry(
            row.generation, "it is not written as Assay writes, so it was edited"
        )
    return entry


def _keep_text(connection: sa.Connection, text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    statement = sa.text(
        "INSERT INTO texts (sha256, text) VALUES (:sha256, :text)"
        " ON CONFLICT DO NOTHING"
    )
    connection.execute(statement, {"sha256": digest, "text": text})
    return digest


def _stale_generation(entry: Entry) -> StaleGeneration:
    return StaleGeneration(
        f"Somebody else wrote entry {entry.generation} of the ledger first."
        " Look at `assay history`, then try again."
    )
