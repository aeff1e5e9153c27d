"""The ledger on a real database.

One writer wins, nothing is changed, and every fault is a sentence.
"""

import hashlib
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.errors import BrokenLedger, IllegalEntry, LedgerError, StaleGeneration
from registry.ledger.chain import follow
from registry.ledger.database import Database
from registry.ledger.heads import record_file
from registry.ledger.keys import create_key, key_file, load_key
from registry.ledger.ledger import (
    SCHEMA,
    Ledger,
    fill_ledger,
    ledger_url,
    open_ledger,
    read_ledger,
    was_ever_opened,
)
from tests.support.ledgers import (
    MODEL,
    START,
    append_released,
    append_turns,
    frozen,
    judged,
    ledger_id_after_opening,
    unfrozen,
)
from tests.support.waiting import SECONDS_AT_MOST

Behaviour = Callable[[Path], None]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    return tmp_path / "home"


def raw(home: Path, *statements: str) -> None:
    """What somebody does who has the file and no scruples."""
    with closing(
        sqlite3.connect(home / "ledger.db", isolation_level=None)
    ) as connection:
        for statement in statements:
            connection.execute(statement)


# What holds on every database; test_ledger_postgres.py runs these again on PostgreSQL.


def test_opening_makes_one_signed_entry_and_opening_again_nothing(home: Path) -> None:
    first = open_ledger(home).state()
    assert first.head.generation == 1
    assert first.keys == (load_key(home).public,)
    assert open_ledger(home).state() == first == read_ledger(home).state()


def test_what_was_appended_is_read_back_and_verifies(home: Path) -> None:
    ledger = open_ledger(home)
    ledger_state = append_released(ledger)
    other = read_ledger(home)
    assert other.state() == ledger_state == follow(None, other.entries())
    assert ledger_state.model(MODEL).current is not None
    assert [each.generation for each in other.entries(after=3)] == [4, 5]


def test_a_release_survives_in_a_new_process_as_it_was(home: Path) -> None:
    ledger_state = append_released(open_ledger(home))
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        assert (
            pool.submit(ledger_id_after_opening, home).result()
            == ledger_state.head.ledger_id
        )


def test_an_open_ledger_follows_what_others_write(home: Path) -> None:
    reader, writer = read_ledger_after_opening(home), open_ledger(home)
    assert reader.state().frozen is None
    writer.append(frozen(), writer.state())
    assert reader.state().frozen is not None
    assert reader.follow(None) == reader.state()


def read_ledger_after_opening(home: Path) -> Ledger:
    open_ledger(home)
    return read_ledger(home)


def test_who_writes_on_an_older_standing_is_told_and_nothing_is_written(
    home: Path,
) -> None:
    ledger = open_ledger(home)
    old = ledger.state()
    ledger.append(frozen(), old)
    with pytest.raises(StaleGeneration, match="entry 2"):
        ledger.append(judged(), old)
    assert ledger.state().head.generation == 2


def test_the_same_entry_twice_at_the_same_moment_is_written_once(home: Path) -> None:
    one, two = (open_ledger(home, clock=lambda: START) for _ in range(2))
    ledger_state = one.state()
    one.append(frozen(), ledger_state)
    with pytest.raises(StaleGeneration):
        two.append(frozen(), ledger_state)


def test_what_does_not_follow_is_not_written(home: Path) -> None:
    ledger = open_ledger(home)
    with pytest.raises(IllegalEntry, match="not frozen"):
        ledger.append(unfrozen(), ledger.state())
    assert ledger.state().head.generation == 1


def test_of_eight_threads_exactly_one_wins_each_generation(home: Path) -> None:
    open_ledger(home)
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda name: append_turns(home, name, 5), "abcdefgh"))
    assert sorted(chain.from_iterable(won)) == list(range(2, 42))
    assert open_ledger(home).state().head.generation == 41


def test_of_four_processes_exactly_one_wins_each_generation(home: Path) -> None:
    open_ledger(home)
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        won = list(pool.map(append_turns, [home] * 4, "abcd", [10] * 4))
    assert sorted(chain.from_iterable(won)) == list(range(2, 42))
    assert open_ledger(home).state().head.generation == 41


def test_eight_that_open_at_once_open_one_ledger(home: Path) -> None:
    with ProcessPoolExecutor(8, get_context("spawn")) as pool:
        found = list(pool.map(ledger_id_after_opening, [home] * 8))
    assert len(set(found)) == 1
    assert open_ledger(home).state().head.generation == 1
    assert sorted(each.name for each in (home / "keys").iterdir()) == [
        "controller.pem",
        "opened",
    ]


def test_a_clock_set_back_does_not_set_back_the_ledger(home: Path) -> None:
    ledger = open_ledger(home, clock=lambda: START)
    ledger_state = ledger.append(frozen(), ledger.state())
    back = open_ledger(home, clock=lambda: START - timedelta(hours=1))
    ledger_state = back.append(unfrozen(), ledger_state)
    ahead = open_ledger(home, clock=lambda: START + timedelta(hours=1))
    ledger_state = ahead.append(frozen(), ledger_state)
    assert [each.at for each in ledger.entries()] == [
        START,
        START,
        START,
        START + timedelta(hours=1),
    ]
    assert read_ledger(home).state() == ledger_state


def test_a_reason_can_be_erased_and_the_ledger_stays_whole(home: Path) -> None:
    ledger = open_ledger(home)
    why = ledger.remember(
        "Ms Miller of 5 Elm Street complained\nabout \u200b version 3 \N{PILE OF POO}"
    )
    assert (
        ledger.remember(
            "Ms Miller of 5 Elm Street complained\nabout \u200b version 3 \N{PILE OF POO}"
        )
        == why
    )
    ledger.append(frozen().model_copy(update={"reason_sha256": why}), ledger.state())
    assert "Ms Miller" in (ledger.recall(why) or "")
    ledger.erase(why)
    assert ledger.recall(why) is None
    assert read_ledger(home).state().frozen is not None
    with pytest.raises(LedgerError, match="keeps no reason"):
        ledger.erase(why)


@pytest.mark.parametrize("text", ["", "  \n", "nul \0", "half \ud800", "x" * 1_000_001])
def test_a_reason_that_cannot_be_kept_is_refused(home: Path, text: str) -> None:
    with pytest.raises(LedgerError, match="reason"):
        open_ledger(home).remember(text)


def test_a_foreign_key_writes_nothing(home: Path, tmp_path: Path) -> None:
    ledger = open_ledger(home)
    create_key(tmp_path / "other")
    key_file(tmp_path / "other").replace(key_file(home))
    with pytest.raises(LedgerError, match="is not one that the ledger trusts"):
        ledger.append(frozen(), ledger.state())
    key_file(home).unlink()
    with pytest.raises(LedgerError, match="is not there"):
        open_ledger(home).append(frozen(), ledger.state())
    assert not key_file(home).exists()
    assert ledger.state().head.generation == 1


def test_entries_fill_only_an_empty_ledger_and_only_whole(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger(home)
    ledger_state = append_released(ledger)
    entries = ledger.entries()
    with pytest.raises(LedgerError, match="has other entries already"):
        fill_ledger(home, entries[:4], [])
    assert fill_ledger(home, entries, ["erased since"]).entries() == entries
    assert ledger.texts() == {}
    monkeypatch.setenv("ASSAY_LEDGER_URL", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    with pytest.raises(BrokenLedger):
        fill_ledger(tmp_path / "new", entries[1:], [])
    filled = fill_ledger(tmp_path / "new", entries, ["because"])
    assert filled.state() == ledger_state
    assert filled.recall(hashlib.sha256(b"because").hexdigest()) == "because"


def test_a_slip_in_the_database_is_refused(home: Path) -> None:
    ledger = open_ledger(home)
    append_released(ledger)
    slips = ["UPDATE entries SET at = at", "DELETE FROM entries WHERE generation = 5"]
    for statement in slips:
        with (
            pytest.raises(LedgerError, match="only ever added"),
            ledger.database.writing() as connection,
        ):
            connection.execute(sa.text(statement))
    assert ledger.state().head.generation == 5


def test_the_newest_version_of_the_tables_is_the_one_that_is_asked_for(
    home: Path,
) -> None:
    with open_ledger(home).database.reading() as connection:
        assert connection.execute(
            sa.text("SELECT version_num FROM alembic_version")
        ).scalars().all() == [SCHEMA]


def test_a_ledger_of_a_newer_assay_is_left_alone(home: Path) -> None:
    with open_ledger(home).database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="newer Assay"):
        open_ledger(home)


# What is SQLite's own.


@pytest.mark.parametrize(
    "trace", ["keys/opened", "endpoint/standing.json", "exports/monday.jsonl"]
)
def test_a_ledger_that_was_there_is_not_begun_anew_without_a_word(
    home: Path, trace: str
) -> None:
    append_released(open_ledger(home))
    (home / "ledger.db").unlink()
    (home / "keys/opened").unlink()
    (home / trace).parent.mkdir(exist_ok=True)
    (home / trace).touch()
    for _ in range(2):
        with pytest.raises(
            BrokenLedger,
            match=r"There was a ledger here .* Restore it with `assay restore`",
        ):
            open_ledger(home)
        with pytest.raises(
            LedgerError,
            match=r"There was a ledger here .* Restore it with `assay restore`",
        ):
            read_ledger(home)
    assert was_ever_opened(home)
    assert not (home / "ledger.db").exists()


def test_a_ledger_whose_entries_are_gone_is_not_begun_anew(home: Path) -> None:
    open_ledger(home)
    raw(home, "DROP TRIGGER entries_no_delete", "DELETE FROM entries")
    for ask in (open_ledger, read_ledger):
        with pytest.raises(LedgerError, match="There was a ledger here"):
            ask(home)


def test_a_ledger_file_without_its_tables_is_lost_and_not_about_to_be_opened(
    home: Path,
) -> None:
    open_ledger(home)
    (home / "ledger.db").write_bytes(b"")
    with pytest.raises(LedgerError, match="There was a ledger here"):
        read_ledger(home)


def test_a_key_alone_was_made_for_a_ledger_that_is_still_to_be_opened(
    home: Path,
) -> None:
    assert not was_ever_opened(home)
    create_key(home)
    assert not was_ever_opened(home)
    with pytest.raises(LedgerError, match="`assay up` opens one"):
        read_ledger(home)
    assert open_ledger(home).state().head.generation == 1
    assert was_ever_opened(home)


def test_without_a_ledger_reading_makes_nothing(home: Path) -> None:
    with pytest.raises(LedgerError, match="There is no ledger at"):
        read_ledger(home)
    assert not home.exists()
    home.mkdir()
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(LedgerError, match="There is no ledger at"):
        read_ledger(home)


def test_insert_or_replace_changes_nothing(home: Path) -> None:
    append_released(open_ledger(home))
    with pytest.raises(sqlite3.IntegrityError, match="only ever added"):
        raw(
            home,
            "INSERT OR REPLACE INTO entries SELECT generation, '2000', kind, body, previous, "
            "key_id, hash, signature FROM entries",
        )


def test_what_somebody_changed_by_hand_is_found_by_the_next_reader(home: Path) -> None:
    ledger = open_ledger(home)
    append_released(ledger)
    ledger.state()
    raw(
        home,
        "DROP TRIGGER entries_no_delete",
        "DELETE FROM entries WHERE generation = 5",
    )
    with pytest.raises(BrokenLedger, match="Entry 5 is missing"):
        ledger.state()


def test_an_entry_on_top_of_a_cut_tail_is_refused(home: Path) -> None:
    ledger = open_ledger(home)
    ledger_state = append_released(ledger)
    raw(
        home,
        "DROP TRIGGER entries_no_delete",
        "DELETE FROM entries WHERE generation > 3",
    )
    with pytest.raises(
        BrokenLedger, match=r"Entry 5 is missing, though .*head\.json remembers it"
    ):
        ledger.append(frozen(), ledger_state)
    record_file(home).unlink()
    with pytest.raises(BrokenLedger, match="ends at entry 3, but entry 5 was there"):
        ledger.append(frozen(), ledger_state)


@pytest.mark.parametrize(
    "change",
    [
        "body = body || ' '",
        "body = '{'",
        "at = '2026-11-01'",
        "kind = 'frozen'",
        "hash = NULL",
        "body = '[]'",
    ],
)
def test_a_row_that_assay_would_not_write_is_no_entry(home: Path, change: str) -> None:
    ledger = open_ledger(home)
    append_released(ledger)
    rename = "ALTER TABLE entries RENAME TO old"
    edit = f"UPDATE entries SET {change} WHERE generation = 3"  # noqa: S608 - the cases above
    raw(home, rename, "CREATE TABLE entries AS SELECT * FROM old", edit)
    with pytest.raises(BrokenLedger, match="Entry 3 is broken"):
        read_ledger(home).entries()


def test_an_erased_reason_leaves_no_bytes_in_the_file(home: Path) -> None:
    ledger = open_ledger(home)
    ledger.erase(ledger.remember("Ms Miller of 5 Elm Street complained"))
    assert all(
        b"Elm Street" not in path.read_bytes() for path in home.glob("ledger.db*")
    )


def test_an_edited_reason_is_found(home: Path) -> None:
    ledger = open_ledger(home)
    why = ledger.remember("it was too slow")
    raw(home, "UPDATE texts SET text = 'it was fine'")
    with pytest.raises(BrokenLedger, match="was edited"):
        ledger.recall(why)


@pytest.fixture
def held(home: Path) -> Iterator[None]:
    """Another connection is in the middle of writing."""
    open_ledger(home)
    with closing(
        sqlite3.connect(home / "ledger.db", isolation_level=None)
    ) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.rollback()


def test_a_ledger_that_stays_locked_is_said_so_and_can_be_read(
    home: Path, held: None
) -> None:
    ledger = Ledger(home, Database(ledger_url(home), patience=0.2))
    with pytest.raises(LedgerError, match="locked by another writer for over 0 s"):
        ledger.append(frozen(), ledger.state())
    assert read_ledger(home).state().head.generation == 1


def test_a_writer_waits_for_the_one_before_it(home: Path) -> None:
    ledger = open_ledger(home)
    ledger_state = ledger.state()
    with closing(
        sqlite3.connect(
            home / "ledger.db", isolation_level=None, check_same_thread=False
        )
    ) as connection:
        connection.execute("BEGIN IMMEDIATE")
        threading.Timer(0.5, connection.rollback).start()
        assert ledger.append(frozen(), ledger_state).head.generation == 2


def test_a_full_disk_is_said_so_and_nothing_is_written(home: Path) -> None:
    ledger = open_ledger(home)
    program = (
        "import resource, signal, sys; from pathlib import Path; from registry.ledger.ledger "
        "import open_ledger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); ledger = open_ledger(Path(sys.argv[1]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "ledger.remember('x' * 500_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, home],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_AT_MOST,
    )
    assert "LedgerError: The disk of the ledger" in done.stderr
    assert ledger.texts() == {}
    assert ledger.state().head.generation == 1


@pytest.fixture
def open_to_all(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home that another user can reach: pytest's own folders are closed."""
    with tempfile.TemporaryDirectory(prefix="assay-ledger-") as folder:
        Path(folder).chmod(0o755)
        append_released(open_ledger(Path(folder)))
        yield Path(folder)


def as_nobody(home: Path, program: str) -> str:
    """Run it as a user who may read and not write.

    Root may do everything, so it is run as another one.
    """
    (home / "ledger.db").chmod(0o444)
    home.chmod(0o555)
    before = (
        "import os, sys; from pathlib import Path; import registry.ledger.ledger as L, "
        "registry.ledger.migrations, tests.support.ledgers as T, alembic.command\n"
    )
    drop = "os.getuid() == 0 and (os.setgid(65534), os.setuid(65534)); home = Path(sys.argv[1])\n"
    done = subprocess.run(
        [sys.executable, "-c", before + drop + program, home],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_AT_MOST,
    )
    return done.stdout + done.stderr


def test_a_read_only_ledger_is_read_and_refuses_to_be_opened_for_writing(
    open_to_all: Path,
) -> None:
    assert "generation=5" in as_nobody(
        open_to_all, "print(L.read_ledger(home).state().head)"
    )
    assert "LedgerError: The ledger" in (
        told := as_nobody(open_to_all, "L.open_ledger(home)")
    )
    assert "is read-only" in told


def test_a_home_that_cannot_be_made_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(LedgerError, match="cannot be made"):
        open_ledger(tmp_path / "file")


def test_a_damaged_file_is_said_so(home: Path) -> None:
    home.mkdir()
    (home / "ledger.db").write_bytes(
        b"this is no database, but it is long enough to look like one" * 20
    )
    with pytest.raises(BrokenLedger, match="damaged"):
        open_ledger(home)


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://u:secret@h/d", "sqlite://", "sqlite:///"]
)
def test_a_url_that_names_no_ledger_is_refused(
    home: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_LEDGER_URL", url)
    with pytest.raises(LedgerError, match=r"ledger|LEDGER") as refused:
        open_ledger(home)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_understood_by_each_of_its_names_and_told_without_a_login(
    scheme: str,
) -> None:
    database = Database(
        f"{scheme}://kim:hunter-2@db.example:5433/ledger?sslmode=require"
    )
    assert database.name == "postgresql+psycopg://db.example:5433/ledger"
    assert str(database.engine.url.password) == "hunter-2"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://kim:hun@ter-2@h/d",
        "postgres://kim:a@ter-2/x@h/d",
        "postgresql://h:ter-2/d",
    ],
)
def test_a_password_that_is_not_escaped_is_refused_and_no_part_of_it_is_told(
    url: str,
) -> None:
    with pytest.raises(
        LedgerError, match=r"cannot be understood|not the URL"
    ) as refused:
        Database(url)
    assert "ter-2" not in str(refused.value)


def test_a_path_with_strange_letters_is_only_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    home = tmp_path / "50% ?mode=ro #1 é"
    assert append_released(open_ledger(home)).head.generation == 5
    assert (home / "ledger.db").is_file()


def test_what_was_committed_survives_a_kill(home: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from registry.ledger.ledger import "
        "open_ledger; from tests.support.ledgers import append_released\n"
        "append_released(open_ledger(Path(sys.argv[1]))); os.kill(os.getpid(), 9)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program, home], check=False, timeout=SECONDS_AT_MOST
        ).returncode
        == -9
    )
    assert open_ledger(home).state().head.generation == 5


def test_a_writer_killed_in_its_transaction_leaves_nothing(home: Path) -> None:
    open_ledger(home)
    program = (
        "import os, sys; from pathlib import Path; import registry.ledger.ledger as L; from "
        "tests.support.ledgers import frozen\n"
        "ledger = L.open_ledger(Path(sys.argv[1])); state = ledger.state()\n"
        "import sqlalchemy as sa\n"
        "@sa.event.listens_for(ledger.database.engine, 'commit')\n"
        "def killed(connection): os.kill(os.getpid(), 9)\n"
        "ledger.append(frozen(), state)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program, home], check=False, timeout=SECONDS_AT_MOST
        ).returncode
        == -9
    )
    ledger = open_ledger(home)
    assert ledger.append(frozen(), ledger.state()).head.generation == 2


def test_the_clock_is_asked_in_utc() -> None:
    from registry.ledger.ledger import now

    before, found, after = datetime.now(UTC), now(), datetime.now(UTC)
    assert found.tzinfo == UTC
    assert before <= found <= after
