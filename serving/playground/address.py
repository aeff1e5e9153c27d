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
    pid: int
    # Seconds since 1970: the kernel uses a process's number again.
    started: float


def address_file(home: Path) -> Path:
    """The file, which exists for as long as a playground runs."""
    return home / "endpoint" / "playground.json"


def publish_address(home: Path, port: int) -> None:
    """Say that this process is the playground of that home."""
    address = PlaygroundAddress(
        port=port,
        pid=os.getpid(),
        started=psutil.Process().create_time(),
    )
    content = address.model_dump_json()
    write_private(address_file(home), content)


def withdraw_address(home: Path) -> None:
    """Say that it ends."""
    address_file(home).unlink(missing_ok=True)


def running_port(home: Path) -> int | None:
    """Its port; None where none runs, also where one was killed."""
    try:
        address = PlaygroundAddress.read(address_file(home))
    except DamagedFile:
        return None
    if not is_alive(address.pid, address.started):
        return None
    return address.port
