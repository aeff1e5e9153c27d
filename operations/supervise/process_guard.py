"""Run a command, and end its whole process tree with it.

    python -m operations.supervise.process_guard --owner PID --seconds-to-stop N -- COMMAND…

The tree ends when the command does, when this process gets SIGTERM, or when the owner has ended,
however it ended. One exception: where a command dies by itself, the processes that outlive it
(`--name`) are left for the owner, which starts the command again.
"""

import argparse
import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil

from core.children import SYSTEM_PID, end_child, owned_by_this_process
from operations.supervise.processes import adopt_orphans, kill_below, reap

# How soon an end of the owner is noticed: no signal tells it.
SECONDS_BETWEEN_LOOKS = 0.2
# Enough to close files; the next owner needs the ports.
SECONDS_WITHOUT_OWNER = 3.0
_EXIT_CODE_OF_A_SIGNAL = 128  # a shell's convention: 128 and the signal's number


class _StopRequest:
    """Whether the command is to end: a signal asked for it, or the owner has ended."""

    def __init__(self, owner: int) -> None:
        self._owner = owner
        self._is_signalled = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note_signal)

    def __bool__(self) -> bool:
        return self._is_signalled or self.is_orphaned

    @property
    def is_orphaned(self) -> bool:
        """Whether the owner has ended."""
        # The kernel gives an orphan another parent at once, so a reused number deceives nobody.
        return os.getppid() != self._owner

    def _note_signal(self, *_: object) -> None:
        self._is_signalled = True


def main(arguments: list[str]) -> int:
    """Give the command's exit code; 0 where it was asked to stop and did in time."""
    options = _parser().parse_args(arguments)
    stop = _StopRequest(options.owner)
    adopt_orphans()
    if stop:
        # The owner ended before this process had started.
        return 0
    environment = {
        **os.environ,
        **owned_by_this_process(),
        SYSTEM_PID: str(options.owner),
    }
    command = subprocess.Popen(
        options.command,
        # A service that asks a question on a terminal would wait for ever.
        stdin=subprocess.DEVNULL,
        env=environment,
        pass_fds=options.socket,
    )
    for number in options.socket:
        # The command alone decides when the socket closes.
        os.close(number)
    try:
        return _wait_for_end(command, stop, options.seconds_to_stop)
    finally:
        # A service that died by itself is started again, and takes over what outlived it.
        outliving = () if stop else (options.name,)
        kill_below(psutil.Process(), outliving=outliving)


def _wait_for_end(
    command: "subprocess.Popen[bytes]", stop: _StopRequest, seconds_to_stop: float
) -> int:
    while command.poll() is None:
        if stop:
            seconds = seconds_to_stop
            if stop.is_orphaned:
                # Nobody waits for the command any more, so its shutdown is cut short.
                seconds = min(seconds, SECONDS_WITHOUT_OWNER)
            is_in_time = end_child(command, seconds)
            return 0 if is_in_time else _EXIT_CODE_OF_A_SIGNAL + signal.SIGKILL
        # Orphans of the command are this process's children now, and nobody else collects them.
        reap(besides=frozenset({command.pid}))
        with suppress(subprocess.TimeoutExpired):
            command.wait(SECONDS_BETWEEN_LOOKS)
    code = command.returncode
    return code if code >= 0 else _EXIT_CODE_OF_A_SIGNAL - code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m operations.supervise.process_guard"
    )
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--seconds-to-stop", type=float, default=15)
    parser.add_argument(
        "--name",
        default="",
        help="name of the service, by which processes that outlive it are known",
    )
    parser.add_argument(
        "--socket",
        type=int,
        action="append",
        default=[],
        help="number of a socket to hand on to the command",
    )
    parser.add_argument("command", nargs="+")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
