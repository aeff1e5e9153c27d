"""The login of the Prefect server of `assay up`.

Whoever can read `HOME/keys/prefect-login` may speak to it, since its API starts commands.
"""

import os
import secrets
from base64 import b64encode
from pathlib import Path

from core.errors import OperationError
from core.private_file import secret


def login_file(home: Path) -> Path:
    """The file of the login; Prefect's pages ask for its line, `USER:PASSWORD`."""
    return home / "keys" / "prefect-login"


def login(home: Path) -> str:
    """The login, made once; `OperationError` where its file cannot be used."""
    path = login_file(home)
    try:
        return secret(path, _new_login).strip()
    except OSError as error:
        raise OperationError(
            f"{path} cannot be used ({error.strerror}). "
            "Run this as the user that runs `assay up`."
        ) from error


def _new_login() -> str:
    return f"assay:{secrets.token_urlsafe(18)}"


def server_login(home: Path) -> dict[str, str]:
    """The environment in which a server asks for the login."""
    return {"PREFECT_SERVER_API_AUTH_STRING": login(home)}


def client_login(home: Path) -> dict[str, str]:
    """The environment in which Prefect's clients send the login."""
    return {"PREFECT_API_AUTH_STRING": login(home)}


def basic(login_line: str) -> str:
    """The value of the header `Authorization` for a login."""
    encoded = b64encode(login_line.encode())
    return f"Basic {encoded.decode()}"


def authorization() -> dict[str, str]:
    """The header by which this process logs in: an auth string, else a key, as Prefect's client."""
    login_line = os.environ.get("PREFECT_API_AUTH_STRING")
    if login_line:
        return {"Authorization": basic(login_line)}
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}
