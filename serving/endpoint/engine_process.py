"""One engine process: `python -m serving` on a port that it takes by itself.

`EngineProcess` is one that this endpoint started, `AdoptedEngine` one that a killed endpoint left
running.
"""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from typing import Self

from core.children import OUTLIVES, OWN_MODULE, RUN_PID, SYSTEM_PID
from core.errors import ServingError
from core.ready import parse_ready
from serving.endpoint.engine_record import EngineRecord, create_token
from serving.endpoint.upstream import EngineAddress
from serving.log import say
from serving.owner import Ownership

_OWN_URL = re.compile(r"http://127\.0\.0\.1:(?P<port>\d+)/v1")
# After that it is killed.
_SECONDS_TO_END = 10.0
# For the last lines of a process that has ended to be read.
_SECONDS_FOR_LAST_LINES = 1.0
# Of its log, for the reason why it ended; the latest is the one that is quoted.
_LINES_KEPT = 5
_LONGEST_LINE_KEPT = 500
_BYTES_AT_ONCE = 8192
_SECONDS_BETWEEN_LOOKS = 0.1


class EngineProcess:
    """A running engine and how it is called. It outlives this process by the grace period alone."""

    def __init__(self, process: Process, label: str, token: str) -> None:
        self.address = EngineAddress(0, token)
        self._process = process
        self._label = label
        self._last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        # From the beginning: a pipe that nobody reads stops the process that writes to it.
        self._logging = asyncio.create_task(self._log_errors())

    @classmethod
    async def start(cls, arguments: list[str], label: str, grace: float) -> Self:
        """Start a process and give it once it answers.

        `ServingError` with the last line of its log where it ends before. `grace` is how many
        seconds it outlives this endpoint.
        """
        process = await asyncio.create_subprocess_exec(
            *(*OWN_MODULE, "serving", *arguments, "--port", "0", "--owned"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=_environment(),
            # Ctrl-C in the terminal is for the endpoint, which lets its engines finish.
            start_new_session=True,
        )
        ownership = Ownership(
            token=create_token(),
            owner=os.getpid(),
            seconds_without_owner=grace,
        )
        engine = cls(process, label, ownership.token)
        try:
            await _send_ownership(process, ownership)
            await engine._wait_until_ready()
        # BaseException: a start that is cancelled must leave no process either.
        except BaseException:
            await engine.stop(at_once=True)
            raise
        return engine

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait_for_end(self) -> str:
        """Wait until it ends; a sentence with its exit code and the last line of its log."""
        code = await self._process.wait()
        with suppress(TimeoutError):
            # Shielded: a process below it may hold the pipe open for as long as it likes.
            logging = asyncio.shield(self._logging)
            await asyncio.wait_for(logging, _SECONDS_FOR_LAST_LINES)
        fact = f"its engine process ended with code {code}"
        if not self._last_lines:
            return fact
        return f"{fact} ({self._last_lines[-1]})"

    async def stop(self, *, at_once: bool = False) -> None:
        """End it, by force where it does not end by itself; no process is left afterwards."""
        with suppress(ProcessLookupError):
            if at_once:
                self._process.kill()
            else:
                self._process.terminate()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _SECONDS_TO_END)
        finally:
            self._logging.cancel()
            if self._process.returncode is None:
                self._process.kill()

    async def _wait_until_ready(self) -> None:
        output = _require_stream(self._process.stdout)
        line = (await output.readline()).decode(errors="replace")
        # An empty line is the end of its output.
        if line == "":
            raise ServingError(await self.wait_for_end())
        # An engine listens on this machine alone: no other address is called.
        match = _OWN_URL.fullmatch(parse_ready(line) or "")
        if match is None:
            raise ServingError(
                f"its engine process said {line[:100]!r} instead of being ready"
            )
        port = int(match["port"])
        self.address = EngineAddress(port, self.address.token)

    async def _log_errors(self) -> None:
        """Copy its stderr into this process's log. A line may be of any length, so not by line."""
        errors = _require_stream(self._process.stderr)
        text = ""
        while chunk := await errors.read(_BYTES_AT_ONCE):
            text += chunk.decode(errors="replace")
            *lines, text = text.split("\n")
            for line in lines:
                self._log_line(line)
            # Of a line without end only its latest part is kept.
            text = text[-_BYTES_AT_ONCE:]

    def _log_line(self, line: str) -> None:
        words = line.strip()
        if words:
            self._last_lines.append(words[:_LONGEST_LINE_KEPT])
            say(f"{self._label}: {line}")


class AdoptedEngine:
    """An engine that an endpoint which was killed has left running. Nobody reads its log."""

    def __init__(self, record: EngineRecord) -> None:
        self.address = record.address
        self._record = record

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._record.pid

    async def wait_for_end(self) -> str:
        """Wait until it ends; a sentence that says so."""
        # The kernel tells the end of a process to its parent alone, so it is looked at.
        while self._record.is_running():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        return "its engine process, taken over from an earlier endpoint, ended"

    async def stop(self, *, at_once: bool = False) -> None:
        """End it, by force where it does not end by itself; no process is left afterwards."""
        number = signal.SIGKILL if at_once else signal.SIGTERM
        try:
            self._send(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wait_for_end(), _SECONDS_TO_END)
        finally:
            self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # Its number may have been given to another process, which must not be killed.
        if self._record.is_running():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _environment() -> dict[str, str]:
    """What an engine process inherits.

    It ends at once with the system around the endpoint, or with the run that started the
    endpoint, but not with the endpoint.
    """
    system = os.environ.get(SYSTEM_PID)
    return {
        **os.environ,
        OUTLIVES: "endpoint",
        **({RUN_PID: system} if system else {}),
    }


async def _send_ownership(process: Process, ownership: Ownership) -> None:
    """On stdin, since everybody on this machine may read command lines."""
    if process.stdin is None:
        return
    # ConnectionError: it has ended, which is seen where its readiness is waited for.
    with suppress(ConnectionError):
        line = f"{ownership.model_dump_json()}\n"
        process.stdin.write(line.encode())
        await process.stdin.drain()
        process.stdin.close()


def _require_stream(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if stream is None:
        raise ServingError("An engine process was started without pipes.")
    return stream
