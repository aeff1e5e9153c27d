"""The app of `mlflow server --app-name assay`: another app of MLflow's, with admission around it.

MLflow asks for `create_app` twice: before it starts workers, and in each of them. What is wrong is
said the first time, so that no worker is started again and again.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from core.errors import RegistryError
from registry.mlflow.acting import remember_requests, take_requests
from registry.mlflow.announced import announcing
from registry.mlflow.guard import register_openers, without_assistant
from registry.mlflow.team.artifacts import REFERENCES, guarded_opener
from registry.mlflow.team.settings import read_team
from registry.mlflow.team.stores import (
    PREFIX,
    models_class,
    open_models,
    open_records,
    plain_address,
    records_class,
)

_BASIC_AUTH = "basic-auth"
_BOOTSTRAPPED = "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED"
_DATABASES = ("sqlite", "postgresql")
_OTHER_PLACES = ("", "file", "mysql", "mssql")
"""MySQL and SQL Server take `süpport ` for `support`: names are compared here by other rules."""


def __getattr__(name: str) -> Callable[[], Any]:
    """`create_app`, once what it needs is there; the process ends with a sentence where not."""
    if name != "create_app":
        raise AttributeError(name)
    _prepare()
    return _create_app


def _prepare() -> None:
    from mlflow.exceptions import MlflowException

    try:
        team = read_team()
        models_class()
        records_class()
        if team.inner_app == _BASIC_AUTH:
            _make_first_user()
    except (RegistryError, MlflowException) as error:
        # MLflow's command would show a traceback of its own.
        sys.exit(f"Assay: {error}")


def _make_first_user() -> None:
    """As `mlflow server` does for an app of the name basic-auth."""
    if os.environ.get(_BOOTSTRAPPED):
        return
    from mlflow.server.auth import bootstrap_admin_user, get_flask_server_secret_key

    get_flask_server_secret_key()
    bootstrap_admin_user()
    os.environ[_BOOTSTRAPPED] = "true"


def _create_app() -> Any:
    """MLflow's application, as uvicorn serves it."""
    from mlflow.server.handlers import initialize_backend_stores

    team = read_team()
    if os.environ.get("_MLFLOW_SGI_NAME") != "uvicorn":
        # The others know nothing of what flask does not see.
        sys.exit(
            "Assay: leave --gunicorn-opts and --waitress-opts out: it needs uvicorn."
        )
    _use_plain_addresses()
    _install_guards()
    initialize_backend_stores()
    app = _inner_app(team.inner_app)
    # MLflow has prepared its database, on its own account.
    take_requests()
    guarded = remember_requests(without_assistant(app))
    return announcing(guarded, team.governed.has)


def _use_plain_addresses() -> None:
    """MLflow parses the addresses in many places, most of which know no `assay+`."""
    from mlflow.server.constants import (
        BACKEND_STORE_URI_ENV_VAR,
        REGISTRY_STORE_URI_ENV_VAR,
    )

    for name in (BACKEND_STORE_URI_ENV_VAR, REGISTRY_STORE_URI_ENV_VAR):
        address = os.environ.get(name)
        if address:
            os.environ[name] = plain_address(address)


def _install_guards() -> None:
    openers = (open_records, open_models)
    register_openers(
        openers,
        _DATABASES,
        _OTHER_PLACES,
        _refuse_store,
    )
    _guard_artifacts()


def _refuse_store(store_uri: str, *_: Any) -> Any:
    # MLflow looks the parameters' names up. The address may hold a password.
    del store_uri
    raise RegistryError(
        "Admission guards records in SQLite or PostgreSQL. "
        "Give --backend-store-uri the address of one."
    )


def _guard_artifacts() -> None:
    from mlflow.store.artifact.artifact_repository_registry import (
        _artifact_repository_registry as registry,
    )

    # Without types, as MLflow leaves it.
    known: Any = registry
    for scheme, plain in dict(known.get_registered_artifact_repositories()).items():
        is_guarded = scheme.startswith(PREFIX)
        if scheme not in REFERENCES and not is_guarded:
            opener = guarded_opener(plain)
            known.register(scheme, opener)


def _inner_app(name: str) -> Any:
    from importlib.metadata import entry_points

    found = tuple(entry_points(group="mlflow.app", name=name))
    # Itself around itself would never end.
    if not found or name == "assay":
        sys.exit(
            f"Assay: ASSAY_MLFLOW_INNER_APP names {name!r}, which is no app of MLflow's here. "
            "Install it, or leave the variable out for basic-auth."
        )
    first = found[0]
    app = first.load()
    # Some give the app, and some a function that makes it.
    is_factory = callable(app) and not hasattr(app, "routes")
    if is_factory:
        app = app()
    if not hasattr(app, "routes"):
        sys.exit(f"Assay: MLflow's app {name!r} is none that uvicorn serves.")
    return app
