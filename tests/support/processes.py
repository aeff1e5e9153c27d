"""Processes that may end between any two questions about them."""

import psutil


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
