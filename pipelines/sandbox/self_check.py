"""Whether boxes hold on this machine: asked once in each process, before the first answer is run.

Bubblewrap may be there and a kernel's setting weaken it, so it is tried and not believed.
"""

from functools import cache

from core.errors import SandboxUnavailable
from pipelines.sandbox.box import Limits
from pipelines.sandbox.run import Trial, run_trial

# A few more than a box may start, never more: an unlimited number would prove nothing better.
_CODE = """
import os
import socket
import time

def processes(most):
    children = []
    for number in range(most):
        try:
            child = os.fork()
        except OSError:
            break
        if child == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return len(children)

def takes(megabytes):
    try:
        bytearray(megabytes << 20)
    except MemoryError:
        return False
    return True

def has_socket():
    try:
        socket.socket()
    except OSError:
        return False
    return True

def sees(folder):
    return sorted(os.listdir(folder))

def writes(path):
    try:
        open(path, "w").close()
    except OSError:
        return False
    return True
"""
_TESTS = """
from solution import has_socket, processes, sees, takes, writes

assert processes(40) < 40
assert takes(64)
assert not takes(1024)
assert not has_socket()
assert set(sees("/")) <= {"bin", "dev", "lib", "lib64", "tmp", "usr"}
assert sees("/tmp") == []
assert writes("/tmp/own")
assert not writes("/own")
assert not writes("/dev/own")
assert not writes("/usr/own")
"""


@cache
def check_sandbox() -> None:
    """Return only where boxes hold here; `SandboxUnavailable` says what is missing."""
    limits = Limits(seconds=30)
    trial = Trial(code=_CODE, tests=_TESTS)
    outcome = run_trial(trial, limits)
    if not outcome.passed:
        raise SandboxUnavailable(
            f"A box does not hold on this machine ({outcome.reason}), "
            "so no code of a model is run here. Run on another machine."
        )
