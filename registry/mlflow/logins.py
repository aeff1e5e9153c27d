"""The login of whoever acts at the command line as a user of MLflow's, in `HOME/login.json`.

Logins to other installations lie beside it: `HOME/login-NAME.json`.

A login is believed where MLflow's server says whose it is: a server without accounts, or with
another answer, gives nobody a name.
"""

import stat
from pathlib import Path
from urllib.parse import quote

from pydantic import Field, ValidationError

from core.errors import OperationError
from core.private_file import write_private
from core.team_server import Answer, TeamServer
from core.value import Value

_USER = "/api/2.0/mlflow/users/get?username="
_AGAIN = "`assay login` again, or `assay logout` to act as your own account"


class Login(Value):
    """A user of MLflow's, and what is needed to ask the server again."""

    server: str = Field(min_length=1, description="Its address, without a login.")
    user: str = Field(min_length=1, max_length=100)
    password: str = Field(min_length=1, repr=False)


def login_file(home: Path, target: str = "") -> Path:
    """Where it is kept, with mode 0600; `target` is another installation, by its name here."""
    return home / (f"login-{target}.json" if target else "login.json")


def read_login(home: Path, target: str = "") -> Login | None:
    """The login that is kept; None where nobody is logged in.

    `OperationError` where the file is open to others or damaged.
    """
    path = login_file(home, target)
    try:
        mode = path.stat().st_mode
        text = path.read_bytes()
        login = Login.model_validate_json(text)
    # What is wrong with the home is said by whoever needs it.
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError:
        # Without the cause: its traceback would show the password.
        raise OperationError(f"{path} is not a whole login: {_AGAIN}.") from None
    # A password that others may have read is nobody's proof any more.
    if stat.S_IMODE(mode) & 0o077:
        raise OperationError(
            f"Others may read {path}, and a password is in it: {_AGAIN}."
        )
    return login


def keep_login(home: Path, login: Login, target: str = "") -> None:
    """Keep it for later commands."""
    write_private(login_file(home, target), login.model_dump_json() + "\n")


def forget_login(home: Path, target: str = "") -> bool:
    """Delete what is kept; gives whether there was anything."""
    path = login_file(home, target)
    was_there = path.exists()
    path.unlink(missing_ok=True)
    return was_there


def verify_login(login: Login, target: str = "") -> None:
    """`OperationError` where the server does not say that this login is this user's.

    `target` is another installation, by its name here.
    """
    server = _server_of(login)
    answer = server.ask(_USER + quote(login.user, safe=""))
    if answer.status == 401:
        again = f"`assay login {login.user} --to {target}` again" if target else _AGAIN
        raise OperationError(
            f"{server.place} does not know {login.user!r} with that password: {again}."
        )
    server.refuse(answer)
    if answer.status != 200 or _name_in(answer) != login.user:
        raise OperationError(
            f"{server.place} does not say whose login that is ({answer.status}), as one "
            "without accounts. Use the server of `assay up`, or one with MLflow's accounts."
        )


def _server_of(login: Login) -> TeamServer:
    from requests.auth import _basic_auth_str

    from registry.mlflow.examine import mlflow_server

    server = mlflow_server(login.server, seconds=10)
    authorization = _basic_auth_str(login.user.encode(), login.password.encode())
    return TeamServer(
        name=server.name,
        setting=server.setting,
        address=server.address,
        login_settings="another login with `assay login`",
        authority_setting=server.authority_setting,
        headers={"Authorization": authorization},
        verify=server.verify,
        seconds=server.seconds,
        own_certificate=server.own_certificate,
    )


def _name_in(answer: Answer) -> str | None:
    document = answer.json()
    if not isinstance(document, dict):
        return None
    user = document.get("user")
    if not isinstance(user, dict):
        return None
    name = user.get("username")
    return name if isinstance(name, str) else None
