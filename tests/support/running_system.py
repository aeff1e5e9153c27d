"""A real `assay up` as a process, and what is left of it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from core.ready import ready_line
from core.system_record import ServiceRecord, SystemRecord, read_record
from operations.services import Ports
from operations.supervise.processes import find_marked
from operations.system_mark import system_mark
from tests.support.journey import Checkout
from tests.support.processes import state_of
from tests.support.waiting import SECONDS_AT_MOST

DIES_LATER = f"""
import pathlib, sys, time
first = pathlib.Path(sys.argv[1])
if first.exists():
    raise SystemExit("no more")
first.touch()
print({ready_line("until it is ended")!r}, flush=True)
time.sleep(600)
"""
"""Well at its first start until a test ends it, and dead at each later one."""


@dataclass(frozen=True)
class Up:
    """One `assay up`: its process, its checkout, what it has said."""

    process: "subprocess.Popen[bytes]"
    checkout: Checkout
    ports: Ports
    log: Path

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    @property
    def record(self) -> SystemRecord:
        record = read_record(self.checkout.home)
        assert record is not None
        return record

    def service(self, name: str) -> ServiceRecord:
        service = self.record.service(name)
        assert service is not None
        return service

    def pids(self) -> dict[str, int]:
        """The lasting services' own processes, once all are ready."""
        self.wait(
            lambda: all(
                each.state in ("ready", "done") for each in self.record.services
            )
        )
        return {
            each.name: each.pid for each in self.record.services if each.pid is not None
        }

    def wait(self, is_so: Callable[[], bool], seconds: float = SECONDS_AT_MOST) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def end(self) -> None:
        """However the test went."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=90)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for each in find_marked(system_mark(self.checkout.home)):
            each.kill()


def start_up(checkout: Checkout, log: Path, *more: str) -> Up:
    ports = Ports(*free_ports(3))
    options = [word for option, port in ports.named() for word in (option, str(port))]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "up", "--no-open", *options, *more],
            cwd=checkout.root,
            env={**os.environ, **checkout.environment},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    return Up(process, checkout, ports, log)


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def nothing_left(home: Path, seconds: float) -> bool:
    """Whether within that time no process of that home is left."""
    deadline = time.monotonic() + seconds
    while (
        left := list(find_marked(system_mark(home)))
    ) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not left


def has_ended(pid: int, seconds: float = SECONDS_AT_MOST) -> bool:
    """Whether within that time the process has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if state_of(pid) == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False
