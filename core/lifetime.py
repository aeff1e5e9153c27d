"""A process that ends with the run that started it."""

import os
import threading
import time
from contextlib import suppress

import psutil


def end_with_the_run() -> None:
    """Stop when the run that started this process is gone, so that a killed run leaves no training and no endpoint behind."""
    owner = os.environ.get("ASSAY_RUN_PID")
    if owner:
        threading.Thread(target=watch, args=(int(owner),), daemon=True).start()


def watch(owner: int) -> None:
    """End this process when the process `owner` is gone."""
    import psutil

    try:
        process = psutil.Process(owner)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
    except psutil.NoSuchProcess:
        pass
    os._exit(1)


def is_alive(pid: int, started: float) -> bool:
    """Whether that very process runs: a number that was given out again is another one."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return (
            abs(process.create_time() - started) < 1
            and process.status() != psutil.STATUS_ZOMBIE
        )
    return False
