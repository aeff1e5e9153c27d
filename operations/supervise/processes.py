"""Processes that belong to a home, however they came to be orphans: found by a mark in their environment, and ended."""

import ctypes
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from serving.outliving import OUTLIVES

MARK = "ASSAY_SERVICES"
_SET_CHILD_SUBREAPER = 36


def mark(home: Path) -> dict[str, str]:
    """What every process of that home carries in its environment, and hands on to its own children."""
    return {MARK: str(home.resolve())}


def marked(home: Path) -> Iterator[psutil.Process]:
    """Processes that carry the mark of that home; this one and those above it never count."""
    wanted, own = (
        str(home.resolve()),
        {os.getpid(), *(each.pid for each in psutil.Process().parents())},
    )
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if (
                process.pid not in own
                and process.environ().get(MARK) == wanted
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                yield process


def sweep(home: Path, seconds: float = 10) -> int:
    """End whatever carries the mark of that home, and say how many there were. What they start meanwhile is ended too."""
    seen: set[int] = set()
    deadline = time.monotonic() + seconds
    while (left := list(marked(home))) and time.monotonic() < deadline:
        kill(left)
        seen.update(each.pid for each in left)
        reap()
        time.sleep(0.05)
    return len(seen)


def kill(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL; psutil looks at the start time first, so a number that was given out again is safe."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def kill_below(
    process: psutil.Process, seconds: float = 10, *, outliving: Collection[str] = ()
) -> None:
    """End every descendant, and the ones that those start while they are being ended; but not what outlives one of those services."""
    deadline = time.monotonic() + seconds
    while (
        left := [each for each in _living(process) if not _outlives(each, outliving)]
    ) and time.monotonic() < deadline:
        kill(left)
        reap()
        time.sleep(0.02)


def adopt_orphans() -> None:
    """From here on processes whose parent died become children of this one, where they are seen and ended (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(besides: frozenset[int], *, outliving: Collection[str] = ()) -> None:
    """End adopted children with all below them: their guard is gone. The ones in `besides` are guards that live.

    What outlives one of the services in `outliving` is left for that service's next start.
    """
    for child in psutil.Process().children():
        with suppress(psutil.Error, OSError):
            if (
                child.pid not in besides
                and MARK in child.environ()
                and not _outlives(child, outliving)
            ):
                kill_below(child, outliving=outliving)
                child.kill()


def reap(besides: frozenset[int] = frozenset()) -> None:
    """Collect adopted children that have ended; the ones in `besides` have somebody who waits for them."""
    with suppress(ChildProcessError):
        while (
            ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        ) is not None and ended.si_pid not in besides:
            os.waitpid(ended.si_pid, os.WNOHANG)


def _outlives(process: psutil.Process, services: Collection[str]) -> bool:
    with suppress(psutil.Error, OSError):
        return bool(services) and process.environ().get(OUTLIVES) in services
    return False


def _living(process: psutil.Process) -> list[psutil.Process]:
    found = []
    with suppress(psutil.Error):
        for each in process.children(recursive=True):
            with suppress(psutil.Error):
                if each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
    return found
