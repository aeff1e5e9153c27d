"""The disk on which the endpoint's log lies is full: nothing that it does depends on saying so."""

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, suppress
from pathlib import Path

import psutil
import pytest

from core.errors import ServingError
from registry.ledger.ledger import open_ledger
from registry.release.following import EndpointState
from serving.endpoint.engine_process import EngineOrder, EngineProcess
from serving.endpoint.follow import Follower
from serving.endpoint.limits import Limits
from tests.support.endpoint_system import Home, Running, endpoint
from tests.support.waiting import wait_until


@contextmanager
def full_disk(running: Running) -> Iterator[None]:
    """No file that the endpoint writes grows beyond its first byte."""
    process = psutil.Process(running.process.pid)
    _, most = process.rlimit(resource.RLIMIT_FSIZE)
    process.rlimit(resource.RLIMIT_FSIZE, (1, most))
    yield
    process.rlimit(resource.RLIMIT_FSIZE, (most, most))


@contextmanager
def ledger_at_hand(home: Home) -> Iterator[None]:
    """SQLite's own files beside the ledger stay as long as somebody has it open.

    To make them anew a reader needs room.
    """
    with closing(sqlite3.connect(home.path / "ledger.db")) as connection:
        connection.execute("SELECT count(*) FROM entries").fetchone()
        yield


@pytest.mark.slow
def test_with_a_full_disk_engines_are_started_again_and_the_ledger_is_followed(
    home: Home,
) -> None:
    home.switch(home.begin("1"))
    (home.package("2") / "chat_template.jinja").write_text(
        "damaged, so that it is not loaded"
    )
    with endpoint(home, "--seconds-between-looks", "0.2") as running:
        with ledger_at_hand(home), full_disk(running):
            running.kill_engine_of(home.package("1"))
            home.wait(home.answers_with("1"), rings=False)
            alarms = _try_version_2(home).alarms
        assert any("Make room on its disk" in alarm for alarm in alarms)
        assert _try_version_2(home).alarms == ()
        assert running.ask().headers["x-assay-release"] == "1"
    assert (
        "version 2 of letters-tiny is not needed any more\n" in running.log.read_text()
    )


def _try_version_2(home: Home) -> EndpointState:
    """Begin its release, which fails, and abort it.

    Gives the state once the endpoint has followed, without a ring.
    """
    begun = home.begin("2")
    home.wait(
        lambda state: any(
            (engine.begun, engine.state) == (begun, "failed")
            for engine in state.engines
        ),
        rings=False,
    )
    home.abort(begun)
    return home.wait(lambda state: state.head == home.ledger_state.head, rings=False)


@contextmanager
def full_stderr() -> Iterator[None]:
    """What this process says on stderr is taken by nobody."""
    nobody = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - closing it fails as well
    with redirect_stderr(nobody):
        yield
    with suppress(OSError):
        nobody.close()


def test_an_alarm_that_cannot_be_said_does_not_end_the_following(
    tmp_path: Path,
) -> None:
    ledger = open_ledger(tmp_path)

    async def follow() -> bool:
        follower = Follower(
            tmp_path, Limits(seconds_between_looks=0.05), lambda _: None
        )
        await follower.look()
        following = asyncio.create_task(follower.keep_following())
        for old, new, is_alarmed in (
            ("ledger.db", "away", True),
            ("away", "ledger.db", False),
        ):
            (tmp_path / old).rename(tmp_path / new)
            await asyncio.to_thread(
                _wait_for_alarm, follower, following, is_alarmed=is_alarmed
            )
        still_follows = not following.done()
        following.cancel()
        return still_follows

    with full_stderr():
        assert asyncio.run(follow())
    assert ledger.state()


def _wait_for_alarm(
    follower: Follower, following: "asyncio.Task[None]", *, is_alarmed: bool
) -> None:
    wait_until(lambda: following.done() or bool(follower.alarms) is is_alarmed)


def test_the_last_words_of_an_engine_are_known_though_they_cannot_be_written_down(
    tmp_path: Path,
) -> None:
    arguments = [
        "--base-folder",
        str(tmp_path),
        "--base-manifest",
        str(tmp_path / "none.json"),
    ]
    with (
        full_stderr(),
        pytest.raises(ServingError, match=r"ended with code 1 \(.*none\.json"),
    ):
        asyncio.run(_start(arguments))


async def _start(arguments: list[str]) -> None:
    await EngineProcess.start(EngineOrder(arguments, "version 1", grace=1))
