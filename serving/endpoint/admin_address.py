"""Where the endpoint of a home is reached by controller and command line: an address and a token that only the home's owner can read."""

import os
import secrets
from pathlib import Path

from core.private_file import write_private
from core.value import Value
from serving.endpoint.memory import FOLDER


class Door(Value):
    """How the running endpoint of a home is reached, and where it answers clients."""

    url: str
    token: str
    pid: int
    serves_at: str

    @classmethod
    def new(cls, url: str, serves_at: str) -> "Door":
        """With a token that nobody knows yet."""
        return cls(url=url, token=secrets.token_urlsafe(32), pid=os.getpid(), serves_at=serves_at)


def door_file(home: Path) -> Path:
    """There for as long as the endpoint runs; mode 0600."""
    return home / FOLDER / "admin.json"


def open_door(home: Path, door: Door) -> None:
    """Tell the owner of the home."""
    write_private(door_file(home), door.model_dump_json())


def close_door(home: Path) -> None:
    """The endpoint ends."""
    door_file(home).unlink(missing_ok=True)
