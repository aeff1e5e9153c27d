"""`assay down`: ask the running `assay up` to end, and end what a killed one left behind."""

import os
import signal
import time
from pathlib import Path

from flows.run.workspace import find_project
from flows.system.processes import sweep
from flows.system.record import read_record, record_file
from pipelines.settings import Settings

SECONDS_TO_STOP = 90


def run_down() -> str:
    """End it, and say what there was to end."""
    home = find_project(Settings().home).home
    record = read_record(home)
    was_running = record is not None and record.is_running()
    if record is not None and was_running:
        os.kill(record.pid, signal.SIGTERM)
        _wait_for(home)
    left = end_system(home)
    if was_running:
        return "Stopped."
    return f"Nothing was running; {left} processes that a killed `assay up` had left are ended." if left else "Nothing is running."


def end_system(home: Path) -> int:
    """End whatever carries the mark of that home, and forget the record; how many processes there were."""
    left = sweep(home)
    record_file(home).unlink(missing_ok=True)
    return left


def _wait_for(home: Path) -> None:
    """Until it is gone; after the time that its services may take, it is ended at once."""
    record, deadline = read_record(home), time.monotonic() + SECONDS_TO_STOP
    while record is not None and record.is_running():
        if time.monotonic() > deadline:
            os.kill(record.pid, signal.SIGKILL)
        time.sleep(0.1)
