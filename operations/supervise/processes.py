"""Find processes by a mark in their environment, and end them with all that they started."""

import ctypes
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil

from core.children import OUTLIVES

_SET_CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
# Looking at every process of the machine costs more than looking at one tree.
_SECONDS_BETWEEN_SWEEPS = 0.05
_SECONDS_BETWEEN_KILLS = 0.02


@dataclass(frozen=True)
class Mark:
    """An environment variable by which a process is known as one of a system's.

    Children inherit it, so it finds even a process that lost its parent.
    """

    name: str
    text: str

    @property
    def environment(self) -> dict[str, str]:
        """The variable, for the environment of a process that is started."""
        return {self.name: self.text}


def find_marked(mark: Mark) -> Iterator[psutil.Process]:
    """Give the running processes that carry the mark, without this one and its ancestors."""
    ancestors = psutil.Process().parents()
    own_pids = {os.getpid(), *(process.pid for process in ancestors)}
    for process in psutil.process_iter():
        # A process may end, or may not be ours to read, while it is looked at.
        with suppress(psutil.Error, OSError):
            if process.pid in own_pids:
                continue
            if process.environ().get(mark.name) != mark.text:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def end_marked(mark: Mark, seconds: float = 10) -> int:
    """End every process that carries the mark, and give how many there were.

    Processes that those start in the meantime are ended too.
    """
    ended_pids: set[int] = set()
    # A process that is killed may have started another one just before: look until none is left.
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        running = list(find_marked(mark))
        if not running:
            break
        kill(running)
        pids = [process.pid for process in running]
        ended_pids.update(pids)
        reap()
        time.sleep(_SECONDS_BETWEEN_SWEEPS)
    return len(ended_pids)


def kill(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL.

    psutil compares the start time first, so a process that got a reused number is safe.
    """
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def kill_below(
    process: psutil.Process, seconds: float = 10, *, outliving: Collection[str] = ()
) -> None:
    """End every descendant of a process, and those that they start in the meantime.

    Processes that outlive one of the services in `outliving` are left.
    """
    deadline = time.monotonic() + seconds
    # A descendant that loses its parent in between is adopted by this process, and found again.
    while time.monotonic() < deadline:
        running = [
            descendant
            for descendant in _living_descendants(process)
            if not _outlives(descendant, outliving)
        ]
        if not running:
            break
        kill(running)
        reap()
        time.sleep(_SECONDS_BETWEEN_KILLS)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant that loses its own (Linux).

    So it sees them, and can end them.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(
    mark: Mark, besides: frozenset[int], *, outliving: Collection[str] = ()
) -> None:
    """End adopted children, whose guard is dead, with all their descendants.

    `besides` holds the process ids of the living guards. Processes that outlive one of the services
    in `outliving` are left for that service's next start.
    """
    for child in psutil.Process().children():
        if child.pid in besides:
            continue
        with suppress(psutil.Error, OSError):
            # Other children of this process, such as a browser, carry no mark.
            is_marked = mark.name in child.environ()
            if is_marked and not _outlives(child, outliving):
                kill_below(child, outliving=outliving)
                child.kill()


def reap(besides: frozenset[int] = frozenset()) -> None:
    """Collect adopted children that have ended.

    `besides` holds the process ids of children that somebody else waits for.
    """
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    with suppress(ChildProcessError):
        # WNOWAIT only looks, so a child of somebody else keeps its exit code for them.
        while (ended := os.waitid(os.P_ALL, 0, options)) is not None:
            if ended.si_pid in besides:
                break
            os.waitpid(ended.si_pid, os.WNOHANG)


def _outlives(process: psutil.Process, services: Collection[str]) -> bool:
    if not services:
        return False
    with suppress(psutil.Error, OSError):
        return process.environ().get(OUTLIVES) in services
    return False


def _living_descendants(process: psutil.Process) -> list[psutil.Process]:
    living: list[psutil.Process] = []
    with suppress(psutil.Error):
        for descendant in process.children(recursive=True):
            with suppress(psutil.Error):
                if descendant.status() != psutil.STATUS_ZOMBIE:
                    living.append(descendant)
    return living
