"""One engine process: `python -m serving` on a port that it takes by itself."""

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from contextlib import suppress
from typing import Self

from pipelines.errors import ServingError
from serving.log import say

_READY = re.compile(r"Ready: .* at http://127\.0\.0\.1:(\d+)/v1\n")
_SECONDS_TO_END = 10.0
_LINES_KEPT = 5


class EngineProcess:
    """A running engine and the port that it answers on. It ends by itself when this process is gone."""

    def __init__(self, process: Process, label: str) -> None:
        self.port = 0
        self._process = process
        self._label = label
        self._last_lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._listening = asyncio.create_task(self._pass_on_errors())

    @classmethod
    async def start(cls, arguments: list[str], label: str) -> Self:
        """The process once it answers; `ServingError` with its own last words where it ends before."""
        environment = {**os.environ, "ASSAY_RUN_PID": str(os.getpid())}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "serving", *arguments, "--port", "0"),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
            # Ctrl-C in the terminal is for the endpoint, which lets its engines finish.
            start_new_session=True,
        )
        engine = cls(process, label)
        try:
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
        found = _READY.fullmatch(line)
        if found is None:
            raise ServingError((await self.ended()) if line == "" else f"its engine process said {line[:100]!r} instead of being ready")
        self.port = int(found[1])

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


def _open(stream: asyncio.StreamReader | None) -> asyncio.StreamReader:
    if stream is None:
        raise ServingError("An engine process was started without pipes.")
    return stream
