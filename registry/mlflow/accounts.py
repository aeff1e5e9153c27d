"""MLflow's first users, what each may do, and their passwords in `HOME/passwords.json` (mode 0600).

| user | for | may |
| --- | --- | --- |
| `admin` | the platform's admin | everything but the next line, and make users |
| `manager` | the release manager | edit runs, reviews and models of their own; aliases and tags of Assay's |
| `scientist` | data scientists | edit runs and reviews, make models of their own, read the others |
| `assay` | worker and controller | make, edit and delete runs, versions and aliases; no users |

What Assay recorded (its experiment, the versions that it registered, tags `assay.*`) is changed by `assay` alone, whatever MLflow's
permissions say: `registry/mlflow/guarded_stores.py`.

Nobody else may see anything: a user made later has no permission until the admin gives one. A password that a person
changed in MLflow stays changed; without the file, all four get new ones at the next start.
"""

import json
import secrets
from pathlib import Path

from core.errors import OperationError
from core.private_file import write_private

ADMIN, SERVICE = "admin", "assay"
_DATABASE = "mlflow-auth.db"
_GRANTS = {
    "manager": (("experiment", "EDIT"), ("registered_model", "EDIT")),
    "scientist": (("experiment", "EDIT"), ("registered_model", "READ")),
    SERVICE: (("experiment", "MANAGE"), ("registered_model", "MANAGE")),
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


def passwords(home: Path) -> dict[str, str]:
    """User to password, as they were made."""
    path = passwords_file(home)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(password) for name, password in found.items()}
    except FileNotFoundError as error:
        raise OperationError(
            f"There is no {path}. `assay up` makes it with MLflow's first users when it starts."
        ) from error
    except (OSError, ValueError, AttributeError) as error:
        raise OperationError(
            f"{path} cannot be read. Delete it: the next start of `assay up` gives every first user a new password."
        ) from error


def service_login(home: Path) -> dict[str, str]:
    """The environment in which MLflow's client is the service account."""
    known = passwords(home)
    if SERVICE not in known:
        raise OperationError(
            f"{passwords_file(home)} has no password of {SERVICE}. The next start of `assay up` gives it one."
        )
    return {
        "MLFLOW_TRACKING_USERNAME": SERVICE,
        "MLFLOW_TRACKING_PASSWORD": known[SERVICE],
    }


def write_settings(home: Path) -> Path:
    """The settings of MLflow's authentication; there is no secret among them."""
    path = home / "mlflow-auth.ini"
    # In an ini file a % stands for itself only where it is doubled.
    write_private(
        path, _SETTINGS.format(database=_database(home).replace("%", "%%"), admin=ADMIN)
    )
    return path


def make_accounts(home: Path) -> None:
    """Have the first users and their permissions. What is there already stays; the file is written last."""
    from mlflow.server.auth import store

    store.init_db(_database(home))  # type: ignore[no-untyped-call]  # mlflow leaves it untyped
    (home / _DATABASE).chmod(0o600)
    known = passwords(home) if passwords_file(home).is_file() else {}
    chosen = {
        name: known.get(name) or secrets.token_urlsafe(18) for name in (ADMIN, *_GRANTS)
    }
    for name, password in chosen.items():
        if not store.has_user(name):
            store.create_user(name, password, is_admin=name == ADMIN)
        elif name not in known or name == SERVICE:
            store.update_user(name, password=password)
        _grant(name)
    if chosen != known:
        write_private(passwords_file(home), json.dumps(chosen, indent=1) + "\n")


def _grant(name: str) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.server.auth import store

    for kind, permission in _GRANTS.get(name, ()):
        try:
            store.grant_user_resource_permission(name, kind, "*", permission)
        except MlflowException as error:
            if (
                error.error_code != "RESOURCE_ALREADY_EXISTS"
            ):  # what the admin changed stays changed
                raise


def _database(home: Path) -> str:
    return f"sqlite:///{home.resolve() / _DATABASE}"
