"""One engine process: `python -m serving` on a port that it takes by itself; and one that a killed endpoint has left running."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from typing import Self

from core.errors import ServingError
from core.ready import parse_ready
from serving.endpoint.engine_record import EngineRecord, new_token
from serving.endpoint.upstream import Address
from serving.log import say
from serving.outliving import OUTLIVES, SYSTEM_PID
from serving.owner import Ownership

_OWN_URL = re.compile(r"http://127\.0\.0\.1:(?P<port>\d+)/v1")
_SECONDS_TO_END = 10.0
_LINES_KEPT = 5
_SECONDS_BETWEEN_LOOKS = 0.1


class EngineProcess:
    """A running engine and how it is asked. It outlives this process by the grace period alone."""

    def __init__(self, process: Process, label: str, token: str) -> None:
        self.address = Address(0, token)
        self._process = process
        self._label = label
        self._last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._listening = asyncio.create_task(self._pass_on_errors())

    @classmethod
    async def start(cls, arguments: list[str], label: str, grace: float) -> Self:
        """The process once it answers; `ServingError` with its own last words where it ends before."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving", *arguments, "--port", "0", "--owned"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=_environment(),
            # Ctrl-C in the terminal is for the endpoint, which lets its engines finish.
            start_new_session=True,
        )
        ownership = Ownership(
            token=new_token(), owner=os.getpid(), seconds_without_owner=grace
        )
        engine = cls(process, label, ownership.token)
        try:
            await _tell(process, ownership)
            await engine._wait_until_ready()
        except BaseException:
            await engine.stop(at_once=True)
            raise
        return engine

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ended(self) -> str:
        """Wait for its end, and say how it was."""
        code = await self._process.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._listening), 1.0)
        last = f" ({self._last_lines[-1]})" if self._last_lines else ""
        return f"its engine process ended with code {code}{last}"

    async def stop(self, *, at_once: bool = False) -> None:
        """End it, by force where it does not end by itself; there is no process left afterwards."""
        with suppress(ProcessLookupError):
            self._process.kill() if at_once else self._process.terminate()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _SECONDS_TO_END)
        finally:
            self._listening.cancel()
            if self._process.returncode is None:
                self._process.kill()

    async def _wait_until_ready(self) -> None:
        line = (await _open(self._process.stdout).readline()).decode(errors="replace")
        match = _OWN_URL.fullmatch(parse_ready(line) or "")
        if match is None:
            raise ServingError(
                (await self.ended())
                if line == ""
                else f"its engine process said {line[:100]!r} instead of being ready"
            )
        self.address = Address(int(match["port"]), self.address.token)

    async def _pass_on_errors(self) -> None:
        text, errors = "", _open(self._process.stderr)
        while chunk := await errors.read(8192):
            *lines, text = (text + chunk.decode(errors="replace")).split("\n")
            for line in lines:
                self._hear(line)
            text = text[-8192:]

    def _hear(self, line: str) -> None:
        if line.strip():
            self._last_lines.append(line.strip()[:500])
            say(f"{self._label}: {line}")


class AdoptedEngine:
    """An engine that runs already, of an endpoint that was killed. Nobody hears its last words."""

    def __init__(self, record: EngineRecord) -> None:
        self.address = record.address
        self._record = record

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._record.pid

    async def ended(self) -> str:
        """Wait for its end, and say how it was."""
        while self._record.is_running():  # noqa: ASYNC110 - the kernel tells an end to the parent alone
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        return "its engine process, taken over from an earlier endpoint, ended"

    async def stop(self, *, at_once: bool = False) -> None:
        """End it, by force where it does not end by itself; there is no process left afterwards."""
        try:
            self._send(signal.SIGKILL if at_once else signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.ended(), _SECONDS_TO_END)
        finally:
            self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._record.is_running():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _environment() -> dict[str, str]:
    """It ends at once with the system around the endpoint, or with the run that started the endpoint, but not with the endpoint."""
    system = os.environ.get(SYSTEM_PID)
    return {
        **os.environ,
        OUTLIVES: "endpoint",
        **({"ASSAY_RUN_PID": system} if system else {}),
    }


async def _tell(process: Process, ownership: Ownership) -> None:
    """On stdin, since command lines are there for everybody to read."""
    if process.stdin is not None:
        with suppress(
            ConnectionError
        ):  # it has ended, which is seen where its readiness is waited for
            process.stdin.write(f"{ownership.model_dump_json()}\n".encode())
            await process.stdin.drain()
            process.stdin.close()


def _open(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if stream is None:
        raise ServingError("An engine process was started without pipes.")
    return stream
