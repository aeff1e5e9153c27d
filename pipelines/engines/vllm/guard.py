"""Ends a server with the process that started it, however that one ends.

    python -I guard.py FOLDER COMMAND…

The owner holds the other end of stdin: the kernel closes it even where the owner is killed. Run by
its path and with nothing of ours, so that it starts at once. FOLDER goes with the server.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

_STDIN = 0
# For the server to end its own processes and to give back their shared memory.
_SECONDS_TO_END = 10.0
# For what the server started to end by itself once the server has.
_SECONDS_TO_FOLLOW = 3.0
_SECONDS_BETWEEN_LOOKS = 0.05
# Of prctl(2): the signal with which the kernel ends a process when its parent ends.
_PR_SET_PDEATHSIG = 1
_BY_SIGNAL = 128
# The kernel gives it the processes below it whose parents have ended.
_PR_SET_CHILD_SUBREAPER = 36
_ASKS_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> int:
    """Run the command to its end, and give its exit code; 128 and the signal's number by one."""
    folder, *command = sys.argv[1:]
    try:
        return _run(command)
    # Also where the command cannot be started at all.
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str]) -> int:
    # What the server started is this process's own once the server has ended, and ends seen.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # Started by the main thread: the kernel counts the end of a thread as that of a parent.
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        # A group of its own: all that it starts is ended with it.
        start_new_session=True,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - no other thread runs yet
    )
    # By default they would end this process at once, and leave what the server started.
    for number in _ASKS_TO_END:
        signal.signal(number, lambda *_: server.terminate())
    waiting = threading.Thread(target=_end_with_owner, args=(server,), daemon=True)
    waiting.start()
    code = server.wait()
    _wait_for_group(server)
    _kill_group(server)
    # As shells have it: this process is not ended by a signal itself.
    return _BY_SIGNAL - code if code < 0 else code


def _end_with_owner(server: "subprocess.Popen[bytes]") -> None:
    while os.read(_STDIN, 1):
        pass
    server.terminate()
    time.sleep(_SECONDS_TO_END)
    _kill_group(server)


def _wait_for_group(server: "subprocess.Popen[bytes]") -> None:
    """Its last process gives shared memory back."""
    deadline = time.monotonic() + _SECONDS_TO_FOLLOW
    # None of the group is left.
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            ended, _ = os.waitpid(-server.pid, os.WNOHANG)
            if ended == 0:
                time.sleep(_SECONDS_BETWEEN_LOOKS)


def _kill_group(server: "subprocess.Popen[bytes]") -> None:
    # Also where the server itself has ended: its group lives as long as any process in it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
