"""Following a database that does not answer."""

import asyncio
import socket
from pathlib import Path

import pytest

from registry.ledger.ledger import open_ledger
from registry.ledger.state import LedgerState
from serving.endpoint.follow import Follower
from serving.endpoint.limits import Limits

QUICK = Limits(seconds_for_the_ledger=0.3)


def test_a_database_that_hangs_is_said_in_time_and_what_was_known_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger_state = open_ledger(tmp_path).state()
    obeyed: list[LedgerState] = []

    async def follow() -> tuple[str, ...]:
        follower = Follower(tmp_path, QUICK, obeyed.append)
        await follower.look()
        monkeypatch.setenv(
            "ASSAY_LEDGER_URL",
            f"postgresql://assay@127.0.0.1:{silent.getsockname()[1]}/ledger",
        )
        await follower.look()
        await follower.look()
        assert follower.ledger_state == ledger_state
        return follower.alarms

    with socket.create_server(("127.0.0.1", 0)) as silent:
        alarms = asyncio.run(follow())
    assert "did not answer within 0 s" in alarms[0], (
        "the database's own time for a connection is seconds"
    )
    assert obeyed == [ledger_state]


def test_a_home_without_a_ledger_is_no_alarm_and_the_ledger_is_followed_once_it_is_there(
    tmp_path: Path,
) -> None:
    obeyed: list[LedgerState] = []

    async def follow() -> None:
        follower = Follower(tmp_path, QUICK, obeyed.append)
        await follower.look()
        assert (follower.alarms, follower.ledger_state) == ((), None)
        await asyncio.to_thread(open_ledger, tmp_path)
        await follower.look()

    asyncio.run(follow())
    assert obeyed == [open_ledger(tmp_path).state()]


def test_a_disk_that_takes_nothing_is_an_alarm_and_the_ledger_is_obeyed_all_the_same(
    tmp_path: Path,
) -> None:
    ledger_state = open_ledger(tmp_path).state()
    (tmp_path / "endpoint").mkdir()
    (tmp_path / "endpoint" / "standing.json").mkdir()
    obeyed: list[LedgerState] = []

    async def follow() -> tuple[str, ...]:
        follower = Follower(tmp_path, QUICK, obeyed.append)
        await follower.look()
        return follower.alarms

    assert "cannot write down" in asyncio.run(follow())[0]
    assert obeyed == [ledger_state]
