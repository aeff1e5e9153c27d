"""One engine process: `python -m serving` on a port that it takes by itself.

`EngineProcess` is one that this endpoint started, at once or as a spare one that is told later what
to load; `AdoptedEngine` is one that a killed endpoint left running.
"""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from core.children import OUTLIVES, OWN_MODULE, RUN_PID, SYSTEM_PID
from core.errors import ServingError
from core.log import say
from core.ready import parse_ready
from core.value import Value
from serving.endpoint.engine_record import EngineRecord, create_token, record_name
from serving.endpoint.upstream import EngineAddress
from serving.owner import Ownership
from serving.spare import BEGINS, FLAG, WARM, Instructions

_OWN_URL = re.compile(r"http://127\.0\.0\.1:(?P<port>\d+)(/v1)?")
# After that it is killed.
_SECONDS_TO_END = 10.0
# For the last lines of a process that has ended to be read.
_SECONDS_FOR_LAST_LINES = 1.0
# Of its log, for the reason why it ended; the latest is the one that is quoted.
_LINES_KEPT = 5
_LONGEST_LINE_KEPT = 500
_BYTES_AT_ONCE = 8192
_SECONDS_BETWEEN_LOOKS = 0.1
# For a spare process that has imported everything to say that it begins.
_SECONDS_TO_BEGIN = 5.0
_SPARE_LABEL = "a spare engine process"


@dataclass(frozen=True)
class EngineOrder:
    """What an engine process is to load."""

    arguments: list[str]
    # What the log calls it.
    label: str
    # Seconds by which it outlives this endpoint.
    grace: float

    @property
    def words(self) -> tuple[str, ...]:
        """Of `python -m serving`."""
        return (*self.arguments, "--port", "0", "--owned")


class EngineProcess:
    """A running engine and how it is called. It outlives this process by the grace period alone."""

    def __init__(self, process: Process, label: str) -> None:
        self.address = EngineAddress(0, create_token())
        self._process = process
        self._label = label
        self._last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        # From the beginning: a pipe that nobody reads stops the process that writes to it.
        self._logging = asyncio.create_task(self._log_errors())

    @classmethod
    async def start(cls, order: EngineOrder) -> Self:
        """Start a process and give it once it answers.

        `ServingError` with the last line of its log where it ends before.
        """
        engine = cls(await _start_python(order.words), order.label)
        try:
            await engine._tell(engine._ownership(order))
            await engine._wait_until_ready()
        # BaseException: a start that is cancelled must leave no process either.
        except BaseException:
            await engine.stop(at_once=True)
            raise
        return engine

    @classmethod
    async def start_spare(cls) -> Self:
        """Start a process that imports everything and then waits for `load`."""
        # The second word is what engines are known by, as `EngineRecord` looks for them.
        return cls(await _start_python((FLAG, "--owned")), _SPARE_LABEL)

    async def wait_until_warm(self) -> None:
        """Wait until a spare process can be told what to load; `ServingError` where it ends."""
        await self._expect(WARM)

    async def load(self, order: EngineOrder) -> None:
        """Have a spare process that is warm load that, and wait until it answers.

        `ServingError` where it does not begin, and where it ends before it answers.
        """
        instructions = Instructions(
            arguments=order.words,
            ownership=self._ownership(order),
        )
        try:
            async with asyncio.timeout(_SECONDS_TO_BEGIN):
                await self._tell(instructions)
                await self._expect(BEGINS)
        except TimeoutError:
            raise ServingError(
                f"it did not begin within {_SECONDS_TO_BEGIN:g} s"
            ) from None
        self._label = order.label
        await self._wait_until_ready()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def record_name(self) -> str:
        """Of the file that says that it runs."""
        return record_name(self.pid)

    @property
    def has_ended(self) -> bool:
        """Whether there is no such process any more."""
        return self._process.returncode is not None

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

    def _ownership(self, order: EngineOrder) -> Ownership:
        return Ownership(
            token=self.address.token,
            owner=os.getpid(),
            seconds_without_owner=order.grace,
        )

    async def _tell(self, message: Value) -> None:
        """On stdin, since everybody on this machine may read command lines."""
        if self._process.stdin is None:
            return
        stdin = self._process.stdin
        text = message.model_dump_json()
        line = f"{text}\n".encode()
        # ConnectionError: it has ended, which is seen where its next line is waited for.
        with suppress(ConnectionError):
            stdin.write(line)
            await stdin.drain()
            stdin.close()

    async def _read_line(self) -> str:
        """The next line of its output; `ServingError` with its last words where it has ended."""
        output = _require_stream(self._process.stdout)
        read = await output.readline()
        line = read.decode(errors="replace")
        # An empty line is the end of its output.
        if line == "":
            last_words = await self.wait_for_end()
            raise ServingError(last_words)
        return line

    async def _expect(self, words: str) -> None:
        line = await self._read_line()
        if line == f"{words}\n":
            return
        beginning = line[:100]
        raise ServingError(
            f"its engine process said {beginning!r}",
        )

    async def _wait_until_ready(self) -> None:
        line = await self._read_line()
        # An engine listens on this machine alone: no other address is called.
        url = parse_ready(line) or ""
        match = _OWN_URL.fullmatch(url)
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

    @property
    def record_name(self) -> str:
        """Of the file that says that it runs."""
        return self._record.name

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


async def _start_python(words: tuple[str, ...]) -> Process:
    return await asyncio.create_subprocess_exec(
        *OWN_MODULE,
        "serving",
        *words,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=_environment(),
        # Ctrl-C in the terminal is for the endpoint, which lets its engines finish.
        start_new_session=True,
    )


def _require_stream(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if stream is None:
        raise ServingError("An engine process was started without pipes.")
    return stream
