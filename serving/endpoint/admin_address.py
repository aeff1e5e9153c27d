"""Where controller and command line call a home's endpoint: an address and a token.

Only the home's owner can read the file that holds them.
"""

import os
import secrets
from pathlib import Path

from core.private_file import write_private
from core.value import Value
from serving.endpoint.memory import FOLDER


class AdminAddress(Value):
    """How the running endpoint of a home is called, and where it answers clients."""

    url: str
    token: str
    pid: int
    # Where clients call it, as in `http://127.0.0.1:8080/v1`.
    serves_at: str

    @classmethod
    def new(cls, url: str, serves_at: str) -> "AdminAddress":
        """This process, with a token that nobody knows yet."""
        return cls(
            url=url,
            token=secrets.token_urlsafe(32),
            pid=os.getpid(),
            serves_at=serves_at,
        )


def admin_address_file(home: Path) -> Path:
    """The file, which exists for as long as the endpoint runs; mode 0600."""
    return home / FOLDER / "admin.json"


def publish_admin_address(home: Path, admin_address: AdminAddress) -> None:
    """Write it for the owner of the home."""
    content = admin_address.model_dump_json()
    write_private(admin_address_file(home), content)


def withdraw_admin_address(home: Path) -> None:
    """Delete it: the endpoint ends."""
    admin_address_file(home).unlink(missing_ok=True)
