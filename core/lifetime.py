"""A process that ends with the run that started it."""

import os
import threading
import time
from contextlib import suppress

import psutil


def end_with_the_run() -> None:
    """End this process when the run that started it has ended.

    So a killed run leaves no training and no endpoint behind.
    """
    owner = os.environ.get("ASSAY_RUN_PID")
    if not owner:
        return
    # A daemon: it must not keep a process alive that has done its work.
    owner_pid = int(owner)
    arguments = (owner_pid,)
    thread = threading.Thread(target=watch, args=arguments, daemon=True)
    thread.start()


def watch(owner: int) -> None:
    """End this process when the process `owner` has ended."""
    try:
        process = psutil.Process(owner)
        # A killed run stays a zombie until its own parent asks for its exit code.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
    except psutil.NoSuchProcess:
        pass
    # Other threads may never return, and no clean-up of theirs may hold this process up.
    os._exit(1)


def is_alive(pid: int, started: float) -> bool:
    """Whether the process `pid` that started at `started`, in seconds since 1970, still runs.

    The kernel reuses process numbers, so the time of the start has to agree too.
    """
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        # Within a second: it is computed from the time of the boot, which may be adjusted.
        difference = process.create_time() - started
        if abs(difference) >= 1:
            return False
        return process.status() != psutil.STATUS_ZOMBIE
    return False
