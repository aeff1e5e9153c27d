"""Processes that may end between any two questions about them."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.support.waiting import SECONDS_AT_MOST, wait_until

_ROOT = Path(__file__).parents[2]


def find_process(pid: int) -> psutil.Process | None:
    """None where it has ended."""
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def children_of(pid: int, *, recursive: bool = False) -> list[psutil.Process]:
    """What it started and still runs; none where it has ended itself."""
    try:
        return psutil.Process(pid).children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def state_of(pid: int) -> str:
    """As psutil names it; that of a zombie where it has ended."""
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


def words_of(process: psutil.Process) -> list[str]:
    """Its command line; none where it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def start_known(words: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a command whose words are there to be read.

    A process that was started just now has none: the kernel lets its parent go on before it
    writes them down. Whoever is known by its words is nobody until then.
    """
    process = subprocess.Popen(words)
    wait_until(lambda: words_of(psutil.Process(process.pid)) == list(words))
    return process


def refusal_of(words: Sequence[str]) -> str:
    """Run a command that refuses to its end; the one line that it leaves on stderr."""
    ended = subprocess.run(
        words,
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_AT_MOST,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr
