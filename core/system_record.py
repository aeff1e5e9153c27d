"""What `assay up` says of itself in `HOME/services.json`: written whole at every change, read by everybody else."""

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
    """One service: its process, since when it is in that state, and what a person should know."""

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
        """Whether it is well at this moment: asked over HTTP where it has an address, by its process where it has none."""
        if self.url is not None:
            return answers(self.url)
        return self.state == "done" or (
            self.pid is not None and psutil.pid_exists(self.pid)
        )


class SystemRecord(Value):
    """A running `assay up`, by process number and start time, and its services."""

    pid: int
    started: float
    services: tuple[ServiceRecord, ...] = ()

    def is_running(self) -> bool:
        """Whether the process that wrote it is still there."""
        return is_alive(self.pid, self.started)

    def service(self, name: str) -> ServiceRecord | None:
        """The service of that name."""
        return next((each for each in self.services if each.name == name), None)


def record_file(home: Path) -> Path:
    """Where it is."""
    return home / "services.json"


def read_record(home: Path) -> SystemRecord | None:
    """What the last `assay up` said; None where there is nothing that can be read."""
    with suppress(DamagedFile, OSError):
        return SystemRecord.read(record_file(home))
    return None


def own_record(services: tuple[ServiceRecord, ...] = ()) -> SystemRecord:
    """This process's."""
    return SystemRecord(
        pid=os.getpid(), started=psutil.Process().create_time(), services=services
    )
