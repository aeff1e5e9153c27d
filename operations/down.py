"""`assay down`: ask the running `assay up` to end, and end the processes that a killed one left."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from core.errors import OperationError
from core.locks import endpoint_lock, is_held, try_exclusive, up_lock
from core.project import find_project
from core.settings import Settings
from core.system_record import SystemRecord, read_record, record_file
from operations.supervise.processes import end_marked, kill
from operations.system_mark import system_mark

# Both waves of services, with their guards.
SECONDS_TO_STOP = 90
# An `assay up` that has just begun holds the lock before it writes its record.
SECONDS_FOR_A_RECORD = 15.0
_SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Ended:
    """What `assay down` ended."""

    was_running: bool
    orphans: int
    """Processes that a killed `assay up` had left."""


def run_down() -> Ended:
    """End the system of this project's home.

    `OperationError` where `assay up` runs and its process is not known.
    """
    home = find_project(Settings().home).home
    record = _find_running(home)
    if record is not None:
        # It ends its services in order; nobody else knows which use which.
        os.kill(record.pid, signal.SIGTERM)
        _wait_for_end(record)
    # Also after an orderly end: an earlier `assay up` may have been killed.
    orphans = end_system(home)
    return Ended(was_running=record is not None, orphans=orphans)


def end_system(home: Path) -> int:
    """End every process of that home's system and delete its record; give how many there were."""
    orphans = end_marked(system_mark(home)) + _end_engines(home)
    record_file(home).unlink(missing_ok=True)
    return orphans


def _end_engines(home: Path) -> int:
    """End the engines that a killed `assay serve` has left; they carry no mark.

    The engines of an endpoint that runs are its own.
    """
    from serving.endpoint.engine_record import read_records

    lock = endpoint_lock(home)
    if not lock.exists():
        return 0
    ended = 0
    # While this holds the lock, no endpoint takes over an engine that is being ended.
    with try_exclusive(lock) as is_free:
        records = read_records(home) if is_free else ()
        for record in records:
            with suppress(psutil.NoSuchProcess):
                kill([psutil.Process(record.pid)])
                ended += 1
    return ended


def _find_running(home: Path) -> SystemRecord | None:
    """Give the record of the `assay up` of that home; None where none runs.

    One that holds the lock without a record is not swept away: it would start everything again.
    """
    deadline = time.monotonic() + SECONDS_FOR_A_RECORD
    while (record := read_record(home)) is None or not record.is_running():
        # The kernel frees the lock with its process, so nobody has to clean it up.
        if not is_held(up_lock(home)):
            return None
        if time.monotonic() > deadline:
            raise OperationError(_unknown_process(home))
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return record


def _unknown_process(home: Path) -> str:
    lock = up_lock(home)
    return (
        f"assay up runs for {home} and does not say in {record_file(home).name} "
        "which process it is; nothing was ended. "
        f"`fuser {lock}` names it: end that process, then repeat."
    )


def _wait_for_end(record: SystemRecord) -> None:
    """Wait until `assay up` has ended; it is killed after the time that its services may take."""
    deadline = time.monotonic() + SECONDS_TO_STOP
    # SIGKILL is repeated, since a process that the kernel holds may not end at the first.
    while record.is_running():
        if time.monotonic() > deadline:
            os.kill(record.pid, signal.SIGKILL)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
