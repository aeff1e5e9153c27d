"""MLflow's first users, what each may do, and their passwords in `HOME/passwords.json` (mode 0600).

| user | for | may |
| --- | --- | --- |
| `admin` | the platform's admin | make users; all but change Assay's records and account |
| `manager` | the release manager | edit own runs, reviews, models; Assay's aliases and tags |
| `scientist` | data scientists | edit runs and reviews, make own models, read the others |
| `assay` | worker and controller | make, edit and delete runs, versions, aliases; no users |

What Assay recorded (its experiment, the versions that it registered, tags `assay.*`) is changed by
`assay` alone, whatever MLflow's permissions say: `registry/mlflow/guarded_stores.py`.

Nobody else may see anything: a user made later has no permission until the admin gives one. A
password that a person changed in MLflow stays changed; without the file, all four get new ones at
the next start.
"""

import json
import secrets
import warnings
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

from core.errors import OperationError
from core.private_file import write_private

ADMIN, SERVICE = "admin", "assay"
_DATABASE = "mlflow-auth.db"
_GRANTS = {
    "manager": (
        ("experiment", "EDIT"),
        ("registered_model", "EDIT"),
    ),
    "scientist": (
        ("experiment", "EDIT"),
        ("registered_model", "READ"),
    ),
    SERVICE: (
        ("experiment", "MANAGE"),
        ("registered_model", "MANAGE"),
    ),
}
_SETTINGS = """\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database}
admin_username = {admin}
auth_cache_ttl_seconds = 60
"""


def passwords_file(home: Path) -> Path:
    """Where the passwords are."""
    return home / "passwords.json"


def read_passwords(home: Path) -> dict[str, str]:
    """Read the passwords by user, as they were made.

    `OperationError` where the file is missing or cannot be read.
    """
    path = passwords_file(home)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {str(user): str(password) for user, password in document.items()}
    except FileNotFoundError as error:
        raise OperationError(
            f"There is no {path}. "
            "`assay up` makes it with MLflow's first users when it starts."
        ) from error
    # AttributeError: valid JSON that is no object has no items.
    except (OSError, ValueError, AttributeError) as error:
        raise OperationError(
            f"{path} cannot be read. Delete it: the next start of `assay up` gives every "
            "first user a new password."
        ) from error


def knows_password(home: Path, user: str, password: str) -> bool:
    """Whether the home's own MLflow knows that login; asked in its database, without a server."""
    if not (home / _DATABASE).is_file():
        return False
    store = _prepared_store(home)
    is_known = store.authenticate_user(user, password)
    return bool(is_known)


def service_login(home: Path) -> dict[str, str]:
    """The environment in which MLflow's client is the service account.

    `OperationError` where its password is not on record.
    """
    by_user = read_passwords(home)
    if SERVICE not in by_user:
        raise OperationError(
            f"{passwords_file(home)} has no password of {SERVICE}. "
            "The next start of `assay up` gives it one."
        )
    return {
        "MLFLOW_TRACKING_USERNAME": SERVICE,
        "MLFLOW_TRACKING_PASSWORD": by_user[SERVICE],
    }


def let_review(home: Path, users: Iterable[str], experiment: str) -> None:
    """Let these users rate in that experiment, and see nothing else by it.

    Nothing is done where the home's MLflow has no accounts yet. `OperationError` where it has no
    such user.
    """
    if not (home / _DATABASE).is_file():
        return
    from mlflow.exceptions import MlflowException

    store = _prepared_store(home)
    # Nobody is made by accident: the admin adds people.
    for user in users:
        if not store.has_user(user):
            raise OperationError(
                f"MLflow has no user {user!r}. The admin adds one at /signup of MLflow's pages."
            )
        try:
            store.grant_user_resource_permission(user, "experiment", experiment, "EDIT")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def keep_service_login() -> None:
    """Let no request change or delete the service account, not even the admin's.

    Whoever gives it a password can act as it. The home's file has its password, and each start sets
    that one.
    """
    from mlflow.server.auth import store

    for name in ("update_user", "delete_user"):
        plain = getattr(store, name)
        setattr(store, name, _without_service(plain))


def _without_service(plain: Callable[..., Any]) -> Callable[..., Any]:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    @wraps(plain)
    def change(username: str, *positional: Any, **named: Any) -> Any:
        if username == SERVICE:
            raise MlflowException(
                f"The account {SERVICE!r} is that of Assay itself, and nobody changes it here. "
                "Delete passwords.json of the home, and the next start gives new passwords.",
                error_code=PERMISSION_DENIED,
            )
        return plain(username, *positional, **named)

    return change


def write_settings(home: Path) -> Path:
    """Write the settings of MLflow's authentication; they contain no secret."""
    path = home / "mlflow-auth.ini"
    # In an ini file a % means itself only where it is doubled.
    database = _database(home).replace("%", "%%")
    write_private(path, _SETTINGS.format(database=database, admin=ADMIN))
    return path


def make_accounts(home: Path) -> None:
    """Create the first users and their permissions where they are missing."""
    store = _prepared_store(home)
    (home / _DATABASE).chmod(0o600)
    recorded = read_passwords(home) if passwords_file(home).is_file() else {}
    chosen = {
        user: recorded.get(user) or secrets.token_urlsafe(18)
        for user in (ADMIN, *_GRANTS)
    }
    for user, password in chosen.items():
        if not store.has_user(user):
            store.create_user(user, password, is_admin=user == ADMIN)
        # A person's changed password stays; that of the service account must be the file's.
        elif user not in recorded or user == SERVICE:
            store.update_user(user, password=password)
        _grant_permissions(user)
    # Written last: a start that was interrupted before this chooses new passwords again.
    if chosen != recorded:
        write_private(passwords_file(home), json.dumps(chosen, indent=1) + "\n")


def _grant_permissions(user: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.server.auth import store

    for kind, permission in _GRANTS.get(user, ()):
        try:
            store.grant_user_resource_permission(user, kind, "*", permission)
        except MlflowException as error:
            # What the admin changed stays changed.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _prepared_store(home: Path) -> Any:
    """MLflow's own store of accounts, over the home's database."""
    with warnings.catch_warnings():
        # Of libraries beneath it, about themselves.
        warnings.simplefilter("ignore")
        from mlflow.server.auth import store

        store.init_db(_database(home))  # type: ignore[no-untyped-call]  # mlflow leaves it untyped
    return store


def _database(home: Path) -> str:
    path = home.resolve() / _DATABASE
    return f"sqlite:///{path}"
