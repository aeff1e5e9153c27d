"""Who may speak to the Prefect server of `assay up`: whoever can read `HOME/keys/prefect-login`, since its API starts commands."""

import secrets
from base64 import b64encode
from pathlib import Path

from core.errors import OperationError
from core.private_file import secret


def login_file(home: Path) -> Path:
    """Where the login is; Prefect's pages ask for this line, `USER:PASSWORD`."""
    return home / "keys" / "prefect-login"


def login(home: Path) -> str:
    """The login, made once."""
    try:
        return secret(
            login_file(home), lambda: f"assay:{secrets.token_urlsafe(18)}"
        ).strip()
    except OSError as error:
        raise OperationError(
            f"{login_file(home)} cannot be used ({error.strerror}). Run this as the user that runs `assay up`."
        ) from error


def server_login(home: Path) -> dict[str, str]:
    """The environment in which a server asks for it."""
    return {"PREFECT_SERVER_API_AUTH_STRING": login(home)}


def client_login(home: Path) -> dict[str, str]:
    """The environment in which Prefect's clients bring it."""
    return {"PREFECT_API_AUTH_STRING": login(home)}


def basic(login_line: str) -> str:
    """As the header `Authorization` says it."""
    return f"Basic {b64encode(login_line.encode()).decode()}"
