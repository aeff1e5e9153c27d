"""The same ledger on a real PostgreSQL, and what only a server can do.

Go away, come back, and lose its answer.
"""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from core.errors import LedgerError
from registry.ledger.database import Database
from registry.ledger.keys import key_file
from registry.ledger.ledger import ledger_url, open_ledger, read_ledger
from registry.release.accept import accept_head
from registry.release.context import ChangeRequest
from tests.registry import test_ledger as on_sqlite
from tests.support.following import REVOCATION, start_follower
from tests.support.ledgers import append_released, frozen, unfrozen
from tests.support.postgres import Postgres, postgres
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def home(
    cluster: Postgres,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A home whose ledger is an empty database of its own."""
    monkeypatch.setenv(
        "ASSAY_LEDGER_URL", cluster.create(f"d{abs(hash(request.node.name))}")
    )
    return tmp_path / "home"


_CORE = (
    on_sqlite.test_opening_makes_one_signed_entry_and_opening_again_nothing,
    on_sqlite.test_what_was_appended_is_read_back_and_verifies,
    on_sqlite.test_an_open_ledger_follows_what_others_write,
    on_sqlite.test_who_writes_on_an_older_standing_is_told_and_nothing_is_written,
    on_sqlite.test_the_same_entry_twice_at_the_same_moment_is_written_once,
    on_sqlite.test_what_does_not_follow_is_not_written,
    on_sqlite.test_of_eight_threads_exactly_one_wins_each_generation,
    on_sqlite.test_of_four_processes_exactly_one_wins_each_generation,
    on_sqlite.test_eight_that_open_at_once_open_one_ledger,
    on_sqlite.test_a_clock_set_back_does_not_set_back_the_ledger,
    on_sqlite.test_a_reason_can_be_erased_and_the_ledger_stays_whole,
    on_sqlite.test_a_slip_in_the_database_is_refused,
    on_sqlite.test_the_newest_version_of_the_tables_is_the_one_that_is_asked_for,
    on_sqlite.test_a_ledger_of_a_newer_assay_is_left_alone,
)


@pytest.mark.parametrize("behaviour", _CORE, ids=lambda test: test.__name__)
def test_on_postgresql(behaviour: "on_sqlite.Behaviour", home: Path) -> None:
    behaviour(home)


def test_neither_update_nor_truncate_reaches_the_entries(home: Path) -> None:
    import sqlalchemy as sa

    append_released(open_ledger(home))
    with (
        pytest.raises(LedgerError, match="only ever added"),
        Database(ledger_url(home)).writing() as connection,
    ):
        connection.execute(sa.text("TRUNCATE entries"))
    assert read_ledger(home).state().head.generation == 5


def test_two_machines_that_open_at_once_open_one_ledger(
    home: Path, tmp_path: Path
) -> None:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from tests.support.ledgers import ledger_id_after_opening

    homes = [tmp_path / f"machine{number}" for number in range(6)]
    with ProcessPoolExecutor(6, get_context("spawn")) as pool:
        assert len(set(pool.map(ledger_id_after_opening, homes))) == 1
    assert len([each for each in homes if key_file(each).exists()]) == 1


def test_a_machine_without_the_key_reads_and_writes_nothing(
    home: Path, tmp_path: Path
) -> None:
    ledger_state = append_released(open_ledger(home))
    other = open_ledger(tmp_path / "other")
    assert other.state() == ledger_state
    with pytest.raises(LedgerError, match="is not there"):
        other.append(frozen(), ledger_state)


def test_a_server_that_went_away_is_said_so_and_found_again(
    home: Path, cluster: Postgres
) -> None:
    ledger = open_ledger(home)
    ledger_state = ledger.state()
    cluster.stop()
    try:
        with pytest.raises(LedgerError, match="unreachable"):
            ledger.append(frozen(), ledger_state)
        with pytest.raises(LedgerError, match="unreachable"):
            read_ledger(home)
    finally:
        cluster.start()
    assert ledger.append(frozen(), ledger_state).head.generation == 2


def test_a_database_that_is_not_there_is_said_so_without_the_password(
    home: Path, cluster: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "ASSAY_LEDGER_URL",
        f"postgresql://assay:secret@127.0.0.1:{cluster.port}/nowhere",
    )
    with pytest.raises(LedgerError, match="There is no ledger at") as refused:
        open_ledger(home)
    assert "secret" not in str(refused.value)


@contextmanager
def losing_the_answer_to_commit(port: int) -> Iterator[int]:
    """A way to the server on which a COMMIT arrives and its answer is lost.

    It takes one connection at a time.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_forward_each, args=(listener, port))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(SECONDS_AT_MOST)


def _forward_each(listener: socket.socket, port: int) -> None:
    with suppress(OSError):  # the listener was shut down
        while True:
            client, _ = listener.accept()
            with (
                client,
                socket.create_connection(("127.0.0.1", port)) as server,
                suppress(OSError),
            ):
                _forward(client, server)


def _forward(client: socket.socket, server: socket.socket) -> None:
    is_committing = False
    while True:
        for end in select.select([client, server], [], [])[0]:
            data = end.recv(65536)
            if not data or (end is server and is_committing):
                return
            is_committing = end is client and b"COMMIT" in data
            (server if end is client else client).sendall(data)


def test_an_entry_whose_answer_was_lost_counts_as_written(
    home: Path, cluster: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger_state = open_ledger(home).state()
    with losing_the_answer_to_commit(cluster.port) as port:
        monkeypatch.setenv(
            "ASSAY_LEDGER_URL",
            ledger_url(home).replace(f":{cluster.port}/", f":{port}/"),
        )
        ledger = read_ledger(home)
        with pytest.raises(LedgerError, match="unreachable"):
            ledger.remember("every commit loses its answer here")
        ledger_state = ledger.append(frozen(), ledger_state)
        assert ledger.append(unfrozen(), ledger_state).head.generation == 3
        assert [entry.generation for entry in ledger.entries()] == [1, 2, 3]


def test_a_tail_that_was_cut_off_is_neither_obeyed_nor_written_to_by_a_home_that_remembers_more(
    home: Path,
) -> None:
    ledger = open_ledger(home)
    append_released(ledger, "1")
    append_released(ledger, "2")
    ledger.append(REVOCATION, ledger.state())
    with Database(ledger_url(home)).writing() as connection:
        connection.exec_driver_sql("ALTER TABLE entries DISABLE TRIGGER ALL")
        connection.exec_driver_sql("DELETE FROM entries WHERE generation > 9")
    seen = start_follower(home)
    assert seen.obeyed is None
    assert any("Entry 10 is missing" in alarm for alarm in seen.alarms)
    with pytest.raises(LedgerError, match="Entry 10 is missing"):
        ledger.append(frozen(), open_ledger(home).state())


def test_a_home_that_was_lost_beside_its_ledger_asks_once(home: Path) -> None:
    append_released(open_ledger(home), "1")
    before = open_ledger(home).state()
    assert start_follower(home).serves == "1"
    new = home.with_name("new")
    (new / "keys").mkdir(parents=True, mode=0o700)
    key_file(home).rename(key_file(new))
    assert start_follower(new).obeyed is None
    accept_head(open_ledger(new), (), ChangeRequest("olga", "the disk was lost"))
    assert start_follower(new).serves == "1"
    assert open_ledger(new).state().head.generation == before.head.generation + 1
