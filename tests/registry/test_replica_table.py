"""The table of replicas on a real PostgreSQL: who has a name, and who counts."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.errors import LedgerError
from registry.ledger.database import Database
from registry.ledger.entries import Head
from registry.ledger.ledger import open_ledger
from registry.release.following import EndpointState
from registry.release.replica_table import ReplicaId, ReplicaTable
from serving.endpoint.registration import Registration
from serving.replicated import replica_table
from tests.support.postgres import Postgres, postgres
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
LEASE = 3000.0
STATE = EndpointState(head=Head(ledger_id="1" * 32, generation=1, hash="2" * 64))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def url(
    cluster: Postgres,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A database with a ledger of one entry."""
    made = cluster.create(f"d{abs(hash(request.node.name))}")
    monkeypatch.setenv("ASSAY_LEDGER_URL", made)
    open_ledger(tmp_path / "home")
    return made


def identity(instance: str, name: str = "pod-1", lease: float = LEASE) -> ReplicaId:
    return ReplicaId(name, instance, lease, serves_at=f"http://{instance}/v1")


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for it beside the event loop."""
    await asyncio.to_thread(wait_until, is_so)


def tables(url: str) -> set[str]:
    with Database(url).reading() as connection:
        return set(sa.inspect(connection).get_table_names())


def test_asking_makes_no_table_where_no_replica_ever_reported(url: str) -> None:
    table = replica_table()
    assert table is not None
    assert table.read() == ()
    assert "replicas" not in tables(url)


def test_eight_that_make_the_table_at_once_make_one(url: str) -> None:
    async def make() -> None:
        making = [asyncio.to_thread(ReplicaTable(url).create) for _ in range(8)]
        await asyncio.gather(*making)

    asyncio.run(make())
    assert "replicas" in tables(url)


def test_a_report_is_read_back_and_gone_once_the_replica_leaves(url: str) -> None:
    table = ReplicaTable(url)
    table.create()
    reported = table.report(identity("a"), STATE, is_first=True)
    assert (reported.is_ours, reported.newest) == (True, 1)
    [replica] = table.read()
    assert (replica.name, replica.state) == ("pod-1", STATE)
    assert (replica.serves_at, replica.lease) == ("http://a/v1", LEASE)
    assert 0 <= replica.seconds_ago < LEASE
    table.leave(identity("a"))
    assert table.read() == ()


def test_a_restart_takes_its_name_over_and_the_older_process_is_told(url: str) -> None:
    table = ReplicaTable(url)
    table.create()
    assert table.report(identity("old"), STATE, is_first=True).is_ours
    assert table.report(identity("new"), STATE, is_first=True).is_ours
    assert not table.report(identity("old"), STATE).is_ours
    # What ends under a name that it lost takes nothing away.
    table.leave(identity("old"))
    assert [replica.serves_at for replica in table.read()] == ["http://new/v1"]


def test_a_name_is_free_again_once_a_lease_has_ended(url: str) -> None:
    table = ReplicaTable(url)
    table.create()
    table.report(identity("gone", lease=0.0), STATE, is_first=True)
    assert table.report(identity("other"), STATE).is_ours


def test_a_report_of_another_version_of_assay_is_an_alarm_and_no_error(
    url: str,
) -> None:
    table = ReplicaTable(url)
    table.create()
    table.report(identity("a"), STATE, is_first=True)
    with Database(url).writing() as connection:
        connection.execute(sa.text("UPDATE replicas SET state = '{\"speed\": 1}'"))
    [replica] = table.read()
    assert replica.state.head is None
    assert "another version of Assay" in replica.state.alarms[0]


def test_an_account_without_rights_is_told_so(cluster: Postgres, url: str) -> None:
    with Database(url).writing() as connection:
        connection.execute(sa.text("CREATE ROLE reader LOGIN"))
    poorer = ReplicaTable(url.replace("assay@", "reader@"))
    with pytest.raises(LedgerError, match="does not let this account do that"):
        poorer.create()


def test_a_replica_reports_looks_where_there_is_news_and_leaves(url: str) -> None:
    table = ReplicaTable(url)
    looks: list[int] = []
    states = [EndpointState(head=None)]

    async def look() -> None:
        looks.append(1)
        states[0] = STATE

    async def live() -> None:
        registration = Registration(identity("a"), table)
        assert registration.seconds_alone == float("inf")
        keeping = asyncio.create_task(
            registration.keep("http://here/v1", lambda: states[0], look)
        )
        await until(lambda: _follows(table))
        assert registration.alarm is None
        assert registration.seconds_alone < LEASE
        keeping.cancel()
        await registration.leave()

    asyncio.run(live())
    assert looks == [1]
    assert table.read() == ()


def _follows(table: ReplicaTable) -> bool:
    return [replica.state for replica in table.read()] == [STATE]


def test_a_replica_whose_name_is_taken_says_so_until_it_is_free(url: str) -> None:
    table = ReplicaTable(url)

    async def live() -> None:
        registration = Registration(identity("a"), table)
        keeping = asyncio.create_task(
            registration.keep("http://here/v1", lambda: STATE, _look_nowhere)
        )
        await until(lambda: registration.seconds_alone < float("inf"))
        other = identity("b")
        await asyncio.to_thread(table.report, other, STATE, is_first=True)
        await until(lambda: registration.is_taken)
        assert registration.alarm is not None
        assert "Another process reports as pod-1" in registration.alarm
        await asyncio.to_thread(table.leave, other)
        await until(lambda: not registration.is_taken)
        assert registration.alarm is None
        keeping.cancel()
        await registration.leave()

    asyncio.run(live())


async def _look_nowhere() -> None:
    raise AssertionError("there is no news")


def test_a_database_that_is_away_is_an_alarm_and_ends_with_it(
    cluster: Postgres, url: str
) -> None:
    table = ReplicaTable(url)

    async def live() -> None:
        registration = Registration(identity("a"), table)
        keeping = asyncio.create_task(
            registration.keep("http://here/v1", lambda: STATE, _look_nowhere)
        )
        await until(lambda: registration.seconds_alone < float("inf"))
        await asyncio.to_thread(cluster.stop)
        try:
            await until(lambda: registration.alarm is not None)
        finally:
            await asyncio.to_thread(cluster.start)
        await until(lambda: registration.alarm is None)
        keeping.cancel()
        await registration.leave()

    asyncio.run(live())
