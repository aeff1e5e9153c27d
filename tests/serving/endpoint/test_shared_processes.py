"""Which releases come into one process, and what becomes of it when they leave."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from core.errors import ServingError
from serving.endpoint.engine_process import AdoptedEngine, EngineProcess
from serving.endpoint.engine_record import EngineContents, EngineRecord, started_at
from serving.endpoint.shared import process
from serving.endpoint.shared.attaching import Attachment, NotNow, Refused
from serving.endpoint.shared.process import StartFailed
from serving.endpoint.shared.processes import SeatOrder, SharedProcesses
from tests.support.ledgers import SPEC
from tests.support.processes import start_known
from tests.support.short_server import listening
from tests.support.waiting import SECONDS_AT_MOST

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.ci

ENGINE = "transformers"
# It is known for an engine by its words.
IDLE = "import time; time.sleep(600)"


class Processes:
    """Starts processes whose HTTP a test answers itself, and ends them."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.shared = SharedProcesses()
        self.started: list[subprocess.Popen[bytes]] = []
        self.fails = 0
        # Set once a start may go on.
        self.may_start = asyncio.Event()
        self.may_start.set()
        self._port = port

    async def start(self) -> EngineProcess:
        words = [sys.executable, "-S", "-c", IDLE, "serving", "--owned"]
        await self.may_start.wait()
        if self.fails:
            self.fails -= 1
            raise ServingError("it has no memory.")
        process = self._begin(words)
        record = EngineRecord(
            pid=process.pid,
            started=started_at(process.pid),
            port=self._port,
            token="token",
            loaded=contents_of("any"),
        )
        return cast("EngineProcess", AdoptedEngine(record))

    def _begin(self, words: list[str]) -> "subprocess.Popen[bytes]":
        process = start_known(words)
        self.started.append(process)
        return process

    def order(self, model: str, version: int = 1) -> SeatOrder:
        attachment = Attachment(contents_of(model, version), self.home)
        return SeatOrder(attachment, ENGINE, self.home, 600, self.start)

    def running(self) -> list[int]:
        return [process.pid for process in self.started if process.poll() is None]

    def only_run(self, *pids: int) -> bool:
        """Whether those alone run, now or as soon as the others have ended.

        A process that was killed has no words any more before its end is told to its parent.
        """
        deadline = time.monotonic() + 60
        while self.running() != list(pids) and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.running() == list(pids)


class Answers:
    """What the processes of a test were asked, and by which status they answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 200
        self.code = "release_not_shared"
        self.forgets = True
        # Set where a process is asked for something.
        self.is_asked = asyncio.Event()
        # Set once an answer may be given.
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _ = head.split(" ", 2)
        self.asked.append(f"{method} {path[-1]}")
        self.is_asked.set()
        await self.may_answer.wait()
        error = {"message": "it is a prompt.", "code": self.code}
        body = json.dumps({"error": error}).encode()
        status = self.status if self.forgets or method != "DELETE" else 500
        writer.write(
            f"HTTP/1.1 {status} OK\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()


def contents_of(model: str, version: int = 1) -> EngineContents:
    return EngineContents(
        model=model,
        package_sha256=f"{ord(model[-1]):063x}{version}",
        spec=SPEC,
        with_adapter=True,
    )


Case = Callable[[Processes, Answers], Coroutine[Any, Any, None]]


@asynccontextmanager
async def site(home: Path) -> AsyncIterator[tuple[Processes, Answers]]:
    answers = Answers()
    async with listening(answers.answer) as port:
        processes = Processes(home, port)
        try:
            yield processes, answers
        finally:
            for process in processes.started:
                process.kill()
                process.wait()


def run(home: Path, case: Case) -> None:
    async def in_site() -> None:
        async with (
            asyncio.timeout(SECONDS_AT_MOST),
            site(home) as (processes, answers),
        ):
            await case(processes, answers)

    asyncio.run(in_site())


def test_releases_of_several_models_that_load_at_one_moment_are_in_one_process(
    tmp_path: Path,
) -> None:
    async def case(processes: Processes, answers: Answers) -> None:
        take = processes.shared.take
        seats = await asyncio.gather(*(take(processes.order(name)) for name in "abc"))
        assert {seat.pid for seat in seats} == set(processes.running())
        assert len(processes.started) == 1
        # Another version of a model never ends together with the first.
        successor = await take(processes.order("a", version=2))
        assert successor.pid == processes.started[1].pid
        both = await take(processes.order("b", version=2))
        assert both.pid == successor.pid
        for seat in seats:
            await seat.stop()
        assert processes.only_run(successor.pid)
        # The last one needs no call: the process ended.
        assert [each[:3] for each in answers.asked].count("DEL") == 2

    run(tmp_path, case)


def test_where_a_start_fails_who_waited_for_it_tries_by_itself(tmp_path: Path) -> None:
    async def case(processes: Processes, _: Answers) -> None:
        processes.fails = 1
        take = processes.shared.take
        first, second = await asyncio.gather(
            take(processes.order("a")),
            take(processes.order("b")),
            return_exceptions=True,
        )
        assert isinstance(first, StartFailed)
        assert not isinstance(second, BaseException)
        assert processes.only_run(second.pid)

    run(tmp_path, case)


def test_after_two_starts_that_failed_none_is_tried(tmp_path: Path) -> None:
    async def case(processes: Processes, _: Answers) -> None:
        processes.fails = 2
        for said in ("no memory", "no memory", "could be started"):
            with pytest.raises(StartFailed, match=said):
                await processes.shared.take(processes.order("a"))
        assert processes.started == []

    run(tmp_path, case)


def test_starts_that_failed_before_one_that_did_not_do_not_count(
    tmp_path: Path,
) -> None:
    async def case(processes: Processes, _: Answers) -> None:
        for name in "abc":
            processes.fails = 1
            with pytest.raises(StartFailed, match="no memory"):
                await processes.shared.take(processes.order(name))
            seat = await processes.shared.take(processes.order(name))
            # The next one finds none that runs.
            await seat.stop()

    run(tmp_path, case)


def test_a_start_that_nobody_waits_for_any_more_leaves_no_process(
    tmp_path: Path,
) -> None:
    async def case(processes: Processes, _: Answers) -> None:
        processes.may_start.clear()
        tasks = [
            asyncio.create_task(processes.shared.take(processes.order(name)))
            for name in "ab"
        ]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.wait({tasks[0]})
        # The second one still wants it.
        processes.may_start.set()
        seat = await tasks[1]
        assert processes.only_run(seat.pid)
        processes.may_start.clear()
        third = asyncio.create_task(processes.shared.take(processes.order("b", 2)))
        await asyncio.sleep(0)
        third.cancel()
        await asyncio.wait({third})
        processes.may_start.set()
        await asyncio.sleep(0.05)
        assert processes.only_run(seat.pid)

    run(tmp_path, case)


def test_a_release_that_is_called_off_while_it_is_attached_leaves_afterwards(
    tmp_path: Path,
) -> None:
    async def case(processes: Processes, answers: Answers) -> None:
        await processes.shared.take(processes.order("a"))
        answers.may_answer.clear()
        answers.is_asked.clear()
        coming = asyncio.create_task(processes.shared.take(processes.order("b")))
        await answers.is_asked.wait()
        coming.cancel()
        await asyncio.sleep(0.05)
        # Not before it is there: what is attached later would stay.
        assert [each[:3] for each in answers.asked] == ["PUT", "PUT"]
        answers.may_answer.set()
        await asyncio.wait({coming})
        assert [each[:3] for each in answers.asked] == ["PUT", "PUT", "DEL"]
        assert len(processes.running()) == 1
        assert len(list((processes.home / "endpoint/engines").iterdir())) == 1

    run(tmp_path, case)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (409, "release_not_shared", Refused),
        # Left there by an endpoint that was killed.
        (409, "release_exists", NotNow),
        (503, "package_changed", NotNow),
    ],
)
def test_a_release_that_is_refused_leaves_nothing(
    tmp_path: Path, status: int, code: str, error: type[ServingError]
) -> None:
    async def case(processes: Processes, answers: Answers) -> None:
        answers.status = status
        answers.code = code
        with pytest.raises(error, match=r"it is a prompt\."):
            await processes.shared.take(processes.order("a"))
        assert processes.only_run()
        assert list((processes.home / "endpoint/engines").iterdir()) == []

    run(tmp_path, case)


def test_a_release_of_which_nobody_would_know_later_is_in_no_process(
    tmp_path: Path,
) -> None:
    async def case(processes: Processes, answers: Answers) -> None:
        # Where the folder of the records should be.
        (processes.home / "endpoint").write_text("")
        with pytest.raises(NotNow):
            await processes.shared.take(processes.order("a"))
        assert processes.only_run()
        assert answers.asked == []

    run(tmp_path, case)


def test_a_process_takes_no_other_release_until_it_has_forgotten_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_SECONDS_TO_NEXT_TRY", 0.01)

    async def case(processes: Processes, answers: Answers) -> None:
        take = processes.shared.take
        stays, goes = await asyncio.gather(*(take(processes.order(n)) for n in "ab"))
        answers.forgets = False
        await goes.stop()
        assert stays.pid in processes.running()
        other = await take(processes.order("c"))
        assert other.pid != stays.pid
        answers.forgets = True
        # The other one has that model.
        newer = contents_of("c", 2)
        while not processes.shared.has_room(newer, ENGINE):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        again = await take(processes.order("c", 2))
        assert again.pid == stays.pid

    run(tmp_path, case)


def test_a_release_comes_back_once_its_process_forgot_it(tmp_path: Path) -> None:
    async def case(processes: Processes, answers: Answers) -> None:
        take = processes.shared.take
        stays, goes = await asyncio.gather(*(take(processes.order(n)) for n in "ab"))
        answers.may_answer.clear()
        answers.is_asked.clear()
        going = asyncio.create_task(goes.stop())
        await answers.is_asked.wait()
        # The process would say that it is there, which is no reason to be alone for good.
        assert not processes.shared.has_room(contents_of("b"), ENGINE)
        assert processes.shared.has_room(contents_of("c"), ENGINE)
        answers.may_answer.set()
        await going
        again = await take(processes.order("b"))
        assert again.pid == stays.pid

    run(tmp_path, case)


def test_everyone_hears_that_the_process_ended(tmp_path: Path) -> None:
    async def case(processes: Processes, _: Answers) -> None:
        take = processes.shared.take
        seats = await asyncio.gather(*(take(processes.order(name)) for name in "ab"))
        processes.started[0].kill()
        processes.started[0].wait()
        reasons = await asyncio.gather(*(seat.wait_for_end() for seat in seats))
        assert all("ended" in reason for reason in reasons)
        assert not processes.shared.has_room(contents_of("c"), ENGINE)

    run(tmp_path, case)


def test_a_process_that_hangs_is_ended_for_everyone(tmp_path: Path) -> None:
    async def case(processes: Processes, answers: Answers) -> None:
        order = processes.order("a")
        quick = SeatOrder(order.attachment, ENGINE, order.home, 0.02, order.start)
        seat = await processes.shared.take(quick)
        answers.status = 503
        assert "3 health checks" in await seat.wait_for_end()
        assert processes.only_run()

    run(tmp_path, case)
