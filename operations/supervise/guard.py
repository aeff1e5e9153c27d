"""Run a command, and leave nothing of it behind: `python -m operations.supervise.guard --owner PID --seconds-to-stop N -- COMMAND…`.

The command's whole tree ends when the command does, when this process gets SIGTERM, or when the owner is gone, however it went.
One exception: where a command dies by itself, what outlives it is left to the owner, which starts the command again (`--name`).
"""

import argparse
import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil

from operations.supervise.processes import adopt_orphans, kill_below, reap
from serving.outliving import SYSTEM_PID

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_WITHOUT_OWNER = 3.0


class _Stop:
    """Whether the command is to end: somebody said so, or the owner is gone."""

    def __init__(self, owner: int) -> None:
        self._owner = owner
        self._is_said = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._say)

    def __bool__(self) -> bool:
        return self._is_said or self.is_orphaned

    @property
    def is_orphaned(self) -> bool:
        """Whose parent died gets another one at once, so this cannot be taken in by a number that was given out again."""
        return os.getppid() != self._owner

    def _say(self, *_: object) -> None:
        self._is_said = True


def main(arguments: list[str]) -> int:
    """The command's exit code; 0 where it was told to stop and did in time."""
    options = _parser().parse_args(arguments)
    stop = _Stop(options.owner)
    adopt_orphans()
    if stop:
        return 0
    environment = {
        **os.environ,
        "ASSAY_RUN_PID": str(os.getpid()),
        SYSTEM_PID: str(options.owner),
    }
    command = subprocess.Popen(
        options.command,
        stdin=subprocess.DEVNULL,
        env=environment,
        pass_fds=options.socket,
    )
    for number in options.socket:
        os.close(number)  # the command alone says when it listens no more
    try:
        return _wait(command, stop, options.seconds_to_stop)
    finally:
        kill_below(psutil.Process(), outliving=() if stop else (options.name,))


def _wait(
    command: "subprocess.Popen[bytes]", stop: _Stop, seconds_to_stop: float
) -> int:
    while command.poll() is None:
        if stop:
            # With nobody left who would wait, what it still does is cut short.
            return _end(
                command,
                min(seconds_to_stop, SECONDS_WITHOUT_OWNER)
                if stop.is_orphaned
                else seconds_to_stop,
            )
        reap(besides=frozenset({command.pid}))
        with suppress(subprocess.TimeoutExpired):
            command.wait(SECONDS_BETWEEN_LOOKS)
    return command.returncode if command.returncode >= 0 else 128 - command.returncode


def _end(command: "subprocess.Popen[bytes]", seconds: float) -> int:
    command.terminate()
    try:
        command.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return 128 + signal.SIGKILL
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m operations.supervise.guard")
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--seconds-to-stop", type=float, default=15)
    parser.add_argument(
        "--name", default="", help="of the service, so that what outlives it is known"
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
