"""The record that `assay up` keeps of itself in `HOME/services.json`.

It is replaced as a whole at every change, and every other command reads it.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

import psutil
from pydantic import AwareDatetime

from core.errors import DamagedFile
from core.lifetime import is_alive
from core.loopback import answers
from core.value import Value

State = Literal["waiting", "starting", "ready", "done", "restarting", "given up"]


class ServiceRecord(Value):
    """One service: its process, its state and since when, and what a person should know."""

    name: str
    state: State
    since: AwareDatetime
    pid: int | None
    url: str | None
    """Answers 200 where the service is well."""
    link: str | None
    """For a person's browser or client."""
    port: int | None
    restarts: int
    detail: str
    is_silent: bool = False
    """Ready once, alive, and without an answer for a while."""

    def answers(self) -> bool:
        """Whether it is well at this moment.

        A service with an address is asked over HTTP; of one without, the process is looked up.
        """
        if self.url is not None:
            return answers(self.url)
        if self.state == "done":
            return True
        if self.pid is None:
            return False
        return psutil.pid_exists(self.pid)


class SystemRecord(Value):
    """A running `assay up`, by process number and start time, and its services."""

    # Both, since the kernel reuses process numbers.
    pid: int
    started: float
    services: tuple[ServiceRecord, ...] = ()

    def is_running(self) -> bool:
        """Whether the process that wrote the record still runs."""
        return is_alive(self.pid, self.started)

    def service(self, name: str) -> ServiceRecord | None:
        """The service of that name, or None."""
        for service in self.services:
            if service.name == name:
                return service
        return None


def record_file(home: Path) -> Path:
    """Where the record is kept."""
    return home / "services.json"


def read_record(home: Path) -> SystemRecord | None:
    """The record of the last `assay up`; None where there is none that can be read."""
    # A missing file is a DamagedFile too: nothing has run here yet.
    with suppress(DamagedFile, OSError):
        return SystemRecord.read(record_file(home))
    return None


def own_record(services: tuple[ServiceRecord, ...] = ()) -> SystemRecord:
    """The record of this process."""
    return SystemRecord(
        pid=os.getpid(),
        started=psutil.Process().create_time(),
        services=services,
    )
