"""`assay down`: ask the running `assay up` to end, and end what a killed one left behind."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from core.errors import OperationError
from core.locks import endpoint_lock, is_held, lock_file, try_exclusive
from core.project import find_project
from core.settings import Settings
from core.system_record import SystemRecord, read_record, record_file
from operations.supervise.processes import kill, sweep

SECONDS_TO_STOP = 90
SECONDS_FOR_A_RECORD = 15.0


def run_down() -> str:
    """End it, and say what there was to end."""
    home = find_project(Settings().home).home
    running = _running(home)
    if running is not None:
        os.kill(running.pid, signal.SIGTERM)
        _wait_for(running)
    left = end_system(home)
    if running is not None:
        return "Stopped."
    return (
        f"Nothing was running; {left} processes that a killed `assay up` had left are ended."
        if left
        else "Nothing is running."
    )


def end_system(home: Path) -> int:
    """End whatever carries the mark of that home, and forget the record; how many processes there were."""
    left = sweep(home) + _end_engines(home)
    record_file(home).unlink(missing_ok=True)
    return left


def _end_engines(home: Path) -> int:
    """Engines that a killed `assay serve` has left, which carry no mark. Those of an endpoint that runs are its own."""
    from serving.endpoint.engine_record import read_records

    lock, ended = endpoint_lock(home), 0
    if not lock.exists():
        return 0
    # Held, so that no endpoint takes over what is being ended.
    with try_exclusive(lock) as is_free:
        records = read_records(home) if is_free else ()
        for record in records:
            with suppress(psutil.NoSuchProcess):
                kill([psutil.Process(record.pid)])
                ended += 1
    return ended


def _running(home: Path) -> SystemRecord | None:
    """The `assay up` of that home. Of one that holds the lock and has no record nothing is swept away: it would start all again."""
    deadline = time.monotonic() + SECONDS_FOR_A_RECORD
    while (record := read_record(home)) is None or not record.is_running():
        if not is_held(lock_file(home)):
            return None
        if time.monotonic() > deadline:
            raise OperationError(_unknown(home))
        time.sleep(0.1)
    return record


def _unknown(home: Path) -> str:
    lock = lock_file(home)
    return (
        f"assay up runs for {home} and does not say in {record_file(home).name} which process it is; nothing was ended. "
        f"`fuser {lock}` names it: end that process, then repeat."
    )


def _wait_for(record: SystemRecord) -> None:
    """Until it is gone; after the time that its services may take, it is ended at once."""
    deadline = time.monotonic() + SECONDS_TO_STOP
    while record.is_running():
        if time.monotonic() > deadline:
            os.kill(record.pid, signal.SIGKILL)
        time.sleep(0.1)
