"""Where the playground of a home listens: written by it, read by the endpoint's own `/`."""

import os
from pathlib import Path

import psutil

from core.errors import DamagedFile
from core.lifetime import is_alive
from core.private_file import write_private
from core.value import Value


class PlaygroundAddress(Value):
    """A running playground."""

    port: int
    # Whether it listens for this machine alone: others would be led to a port that is closed.
    is_local: bool
    pid: int
    # Seconds since 1970: the kernel uses a process's number again.
    started: float


def address_file(home: Path) -> Path:
    """The file, which exists for as long as a playground runs."""
    return home / "endpoint" / "playground.json"


def publish_address(home: Path, port: int, *, is_local: bool) -> None:
    """Say that this process is the playground of that home."""
    address = PlaygroundAddress(
        port=port,
        is_local=is_local,
        pid=os.getpid(),
        started=psutil.Process().create_time(),
    )
    content = address.model_dump_json()
    write_private(address_file(home), content)


def withdraw_address(home: Path) -> None:
    """Say that it ends, where no other playground of the home has said since that it runs."""
    address = _read(home)
    is_own = address is not None and address.pid == os.getpid()
    if is_own:
        address_file(home).unlink(missing_ok=True)


def running_playground(home: Path) -> PlaygroundAddress | None:
    """Where it listens; None where none runs, also where one was killed."""
    address = _read(home)
    if address is None or not is_alive(address.pid, address.started):
        return None
    return address


def _read(home: Path) -> PlaygroundAddress | None:
    try:
        return PlaygroundAddress.read(address_file(home))
    # Without a file none runs, and a damaged one leads nowhere.
    except DamagedFile:
        return None
