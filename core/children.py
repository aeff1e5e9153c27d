"""A child process: what `assay up`, its guards and a run's own Prefect server share.

Each owner decides for itself when a child is ready and whether it is started again;
docs/decisions/0014-one-supervisor.md says why.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RUN_PID = "ASSAY_RUN_PID"
"""Process with which a child ends: `core.lifetime.end_with_the_run` reads it."""
SYSTEM_PID = "ASSAY_SYSTEM_PID"
"""The `assay up` around a service. What outlives the service ends with that process."""
OUTLIVES = "ASSAY_OUTLIVES"
"""Name of the service that a process outlives.

When that service dies, its other processes are ended and this one is left for its next start.
"""

OWN_MODULE = (sys.executable, "-P", "-m")
"""How a module of ours is started in a folder of the person's.

Without `-P` a `core` or a `cli` of that folder would be imported in place of ours.
"""
_SECONDS_TO_DIE = 10.0


@dataclass(frozen=True)
class ChildCommand:
    """What a child runs, in which environment and folder, and the log that it adds to."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    folder: Path | None = None
    sockets: tuple[int, ...] = ()
    """File descriptors that the child inherits."""


def start_child(command: ChildCommand) -> "subprocess.Popen[bytes]":
    """Start a child in a session of its own, with nothing on its standard input.

    `OSError` where its log cannot be opened or its program cannot be started.
    """
    with command.log.open("ab") as log:
        return subprocess.Popen(
            command.arguments,
            cwd=command.folder,
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=command.sockets,
            # Ctrl-C in the terminal reaches the owner alone, which ends its children in order.
            start_new_session=True,
        )


def end_child(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Ask a child to end, and end it by force after so many seconds.

    Gives whether it ended in time.
    """
    process.terminate()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        # A process that the kernel holds in a system call ends later than that.
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_SECONDS_TO_DIE)
        return False
    return True


def owned_by_this_process() -> dict[str, str]:
    """The environment variable with which a child ends when this process does."""
    return {RUN_PID: str(os.getpid())}
