"""vLLM's server as a child process that ends with this one."""

import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import httpx

from core.errors import ServingError
from core.log import say
from pipelines.engines import NotTaken
from pipelines.engines.vllm.order import Address, ServerOrder

_GUARD = Path(__file__).with_name("guard.py")
# Of the 240 that the endpoint gives an engine: transformers needs the rest, where it must serve.
_SECONDS_TO_START = 180.0
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_FOR_A_LOOK = 10.0
# The guard ends it by force before.
_SECONDS_TO_END = 20.0
# Of the name of a socket, in Linux.
_LONGEST_NAME = 107
# What comes of a connection that breaks, and of an answer in another form than vLLM's.
_UNREADABLE = (httpx.HTTPError, ValueError, KeyError, TypeError)
_FAULT = re.compile(r"\b(?P<fact>\w+(?:Error|Exception): .+)")
_LONGEST_FACT = 300


class Server:
    """The process, from its start on."""

    def __init__(self, order: ServerOrder) -> None:
        # For this account alone, which is the wall before the socket.
        self._folder = Path(tempfile.mkdtemp(prefix="assay-vllm-"))
        path = self._folder / "socket"
        if len(str(path)) > _LONGEST_NAME:
            self._folder.rmdir()
            raise NotTaken(f"{path} is too long for a socket: set TMPDIR to /tmp")
        self.address = Address(path, secrets.token_urlsafe(32))
        self._order = order
        # The first one in its log, since those after it follow from it; empty without any.
        self.fault = ""
        # Of libraries that end, nobody needs to read.
        self._is_closing = False
        self._process = self._start()
        self._reading = threading.Thread(target=self._read_log, daemon=True)
        self._reading.start()

    @property
    def pid(self) -> int:
        """Of its guard, whose child it is."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait_until_ready(self) -> str:
        """Wait until it answers, and give its version.

        `ServingError` where it ends before, serves other names, takes too long, or answers what
        vLLM does not.
        """
        deadline = time.monotonic() + _SECONDS_TO_START
        with self._client() as client:
            while not (self._listens and _answers(client)):
                self._check_start(deadline)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            try:
                return self._identify(client)
            except _UNREADABLE as error:
                kind = type(error).__name__
                raise ServingError(
                    self.fault or f"its server did not say what it serves ({kind})"
                ) from error

    def wait_for_end(self) -> str:
        """Wait until it ends, and give a sentence with its exit code: its log was said before."""
        code = self._process.wait()
        self._reading.join(_SECONDS_FOR_A_LOOK)
        return f"vLLM's server ended with code {code}"

    @property
    def _listens(self) -> bool:
        """Whether its socket takes connections: httpx keeps one open for each that is refused."""
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(self.address.socket))
            return True
        return False

    def close(self) -> None:
        """End it and all that it started."""
        self._is_closing = True
        stdin = self._process.stdin
        if stdin is not None:
            stdin.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reading.join(_SECONDS_FOR_A_LOOK)

    def _start(self) -> "subprocess.Popen[bytes]":
        words = self._order.command(self.address)
        return subprocess.Popen(
            [sys.executable, "-I", _GUARD, self._folder, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._order.environment(self.address),
            cwd=self._folder,
            # Ctrl-C in the terminal is for this process, which ends it.
            start_new_session=True,
        )

    def _client(self) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.address.socket)),
            base_url="http://vllm",
            headers={"authorization": f"Bearer {self.address.token}"},
            timeout=_SECONDS_FOR_A_LOOK,
        )

    def _check_start(self, deadline: float) -> None:
        if not self.is_running:
            self._reading.join(_SECONDS_FOR_A_LOOK)
            code = self._process.returncode
            raise ServingError(
                self.fault or f"its server ended with code {code} before it answered"
            )
        if time.monotonic() > deadline:
            raise ServingError(
                f"its server did not answer within {_SECONDS_TO_START:.0f} s"
            )

    def _identify(self, client: httpx.Client) -> str:
        self._check_names(client)
        version = client.get("/version").raise_for_status().json()["version"]
        return str(version)

    def _check_names(self, client: httpx.Client) -> None:
        """Return only if it serves what was ordered, and nothing else."""
        models = client.get("/v1/models").raise_for_status().json()["data"]
        served = {str(model["id"]) for model in models}
        ordered = {self._order.base_name}
        if self._order.adapter is not None:
            ordered.add(self._order.adapter.name)
        if served != ordered:
            raise ServingError(f"its server has {len(served)} models under other names")

    def _read_log(self) -> None:
        """Copy its output to this process's log, to its end: a full pipe would stop it."""
        output: IO[bytes] | None = self._process.stdout
        if output is None:
            return
        with output:
            for line in output:
                text = line.decode(errors="replace").rstrip()
                self._note(text)

    def _note(self, line: str) -> None:
        if not line or self._is_closing:
            return
        say(f"vLLM: {line}")
        match = _FAULT.search(line)
        if match is not None and not self.fault:
            self.fault = match["fact"][:_LONGEST_FACT]


def _answers(client: httpx.Client) -> bool:
    with suppress(httpx.HTTPError):
        return client.get("/health").status_code == httpx.codes.OK
    return False
