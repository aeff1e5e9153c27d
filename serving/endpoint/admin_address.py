"""Where the endpoint of a home is reached by controller and command line: an address and a token that only the home's owner can read."""

import os
import secrets
from pathlib import Path

from core.private_file import write_private
from core.value import Value
from serving.endpoint.memory import FOLDER


class AdminAddress(Value):
    """How the running endpoint of a home is reached, and where it answers clients."""

    url: str
    token: str
    pid: int
    serves_at: str

    @classmethod
    def new(cls, url: str, serves_at: str) -> "AdminAddress":
        """With a token that nobody knows yet."""
        return cls(
            url=url,
            token=secrets.token_urlsafe(32),
            pid=os.getpid(),
            serves_at=serves_at,
        )


def admin_address_file(home: Path) -> Path:
    """There for as long as the endpoint runs; mode 0600."""
    return home / FOLDER / "admin.json"


def publish_admin_address(home: Path, admin_address: AdminAddress) -> None:
    """Tell the owner of the home."""
    write_private(admin_address_file(home), admin_address.model_dump_json())


def withdraw_admin_address(home: Path) -> None:
    """The endpoint ends."""
    admin_address_file(home).unlink(missing_ok=True)
