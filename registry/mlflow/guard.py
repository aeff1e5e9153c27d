"""MLflow's server with Assay's rules between its routes and what they would change.

Stores and artifacts are the places where a change happens, whichever route, encoding or method
asked for it. Routes that reach neither, such as those of MLflow's assistant, which runs commands on
this machine, are refused.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount

from core.errors import RegistryError
from registry.mlflow.accounts import SERVICE, keep_service_login
from registry.mlflow.acting import remember_requests, take_requests
from registry.mlflow.admission import Admission
from registry.mlflow.announced import announcing
from registry.mlflow.approving import with_approvals
from registry.mlflow.desk import Desk
from registry.mlflow.guarded_reviews import REVIEW_RULES
from registry.mlflow.guarded_stores import (
    MODELS,
    TRACKING,
    check_classified,
    guard_store,
)
from registry.mlflow.webhooks import let_service_keep_webhooks

_READ = frozenset({"GET", "HEAD"})
_ALLOWED_METHODS = {
    "mlflow.server.artifact_router": _READ,
    "mlflow.server.job_api": _READ,
    "mlflow.server.mcp_server_api": _READ,
    "mlflow.server.otel_api": frozenset({"POST"}),
    "mlflow.server.server_info_api": _READ,
}
"""Methods that stay on routes that flask does not see, by the module that has the route.

Traces go through the tracking store, which has its own rules.
"""
_DATABASES = ("sqlite", "postgresql")
_OTHER_PLACES = (
    *("", "file", "mysql", "mssql", "databricks", "databricks-uc"),
    # A team's server is not this one.
    *("assay+sqlite", "assay+postgresql", "assay+postgresql+psycopg"),
)
"""Where MLflow could keep its records as well."""
_ASSISTANT = "mlflow.server.assistant"
"""It runs commands with this process's account, which reads the keys of admission."""
_OWN_DISK = ("", "file")
_REFERENCES = ("runs", "models", "mlflow-artifacts")
"""Artifact addresses that MLflow turns into others, which are then looked at."""


def install_guards(desk: Desk) -> None:
    """Have MLflow use the guarded stores and artifacts wherever this process opens any.

    `desk` takes what people ask for on a version's page: releases and approvals.

    They are registered here and not by an entry point: that one would be missing where an
    environment was made before this module. `RegistryError` where MLflow's store of models has a
    method that changes something and that no rule is for.
    """
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    from registry.mlflow.guarded_artifacts import ARTIFACT_ROOT

    rules = {**MODELS, **Admission(desk).rules}
    check_classified(Models, rules)
    guarded_tracking = guard_store(Tracking, {**TRACKING, **REVIEW_RULES})
    guarded_models = with_approvals(guard_store(Models, rules), desk)

    def open_tracking(store_uri: str, artifact_uri: str | None = None) -> Any:
        location = artifact_uri or os.environ[ARTIFACT_ROOT]
        return guarded_tracking(store_uri, location)

    def open_models(store_uri: str) -> Any:
        return guarded_models(store_uri)

    openers = (open_tracking, open_models)
    register_openers(
        openers,
        _DATABASES,
        _OTHER_PLACES,
        _refuse_store,
    )
    _install_artifact_guards()


def _refuse_store(store_uri: str, *_: Any) -> Any:
    """Refuse to keep records where nothing would guard them: `RegistryError`."""
    scheme = store_uri.split(":", 1)[0]
    raise RegistryError(
        f"Assay's MLflow keeps its records in SQLite or PostgreSQL, not at {scheme[:20]}:. "
        "Unset the variable that leads there."
    )


def register_openers(
    openers: tuple[Any, Any],
    databases: Iterable[str],
    other_places: Iterable[str],
    refuse: Callable[..., Any],
) -> None:
    """Have MLflow open run stores and model stores by these two, and none in another place."""
    for registries, opener in zip(all_store_registries(), openers, strict=True):
        for registry in registries:
            for scheme in databases:
                registry.register(scheme, opener)
            for scheme in other_places:
                registry.register(scheme, refuse)


def all_store_registries() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The registries of run stores and of model stores.

    Of each kind there is one for the server's routes, and one for MLflow's clients in this process.
    """
    from mlflow.server import handlers
    from mlflow.tracking._model_registry import utils as models
    from mlflow.tracking._tracking_service import utils as tracking

    # MLflow has no public names for them.
    runs = (
        handlers._tracking_store_registry,  # noqa: SLF001
        tracking._tracking_store_registry,  # noqa: SLF001
    )
    versions = (
        handlers._model_registry_store_registry,  # noqa: SLF001
        models._get_store_registry(),  # type: ignore[no-untyped-call]  # noqa: SLF001
    )
    return runs, versions


def _install_artifact_guards() -> None:
    from mlflow.store.artifact.artifact_repository_registry import (
        _artifact_repository_registry as registry,
    )

    from registry.mlflow.guarded_artifacts import GuardedArtifacts, refuse_address

    repositories = registry.get_registered_artifact_repositories()  # type: ignore[no-untyped-call]
    schemes = tuple(repositories)
    for scheme in schemes:
        if scheme in _REFERENCES:
            continue
        repository = GuardedArtifacts if scheme in _OWN_DISK else refuse_address
        registry.register(scheme, repository)  # type: ignore[no-untyped-call]


def guarded_app() -> Any:
    """MLflow's application with accounts; from here on nothing is changed without one."""
    from mlflow.server.auth import create_app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores()
    app = create_app()
    let_service_keep_webhooks(SERVICE)
    keep_service_login()
    # After MLflow has prepared its database, which it does on its own account.
    take_requests()
    # A mount is flask's application: its routes change things through the guarded stores alone.
    native = [
        _NativeRoute(route) for route in app.routes if not isinstance(route, Mount)
    ]
    guarded = remember_requests(_without_other_routes(app, native))
    # Whatever is registered there by Assay is admitted there.
    return announcing(guarded, lambda _: True)


def without_assistant(app: Any) -> Any:
    """A team's application without MLflow's assistant; every other route stays."""
    # A mount is flask's application, which has no assistant.
    routes = [route for route in app.routes if not isinstance(route, Mount)]
    assistant = filter(_is_assistant, routes)
    refused = list(map(_NativeRoute, assistant))
    return _without_other_routes(
        app,
        refused,
    )


def _is_assistant(route: Any) -> bool:
    modules = _modules_of(route)
    return any(module.startswith(_ASSISTANT) for module in modules)


def _modules_of(router: Any) -> set[str]:
    routes = (router,)
    if hasattr(router, "original_router"):
        routes = router.original_router.routes
    return {route.endpoint.__module__ for route in routes if hasattr(route, "endpoint")}


class _NativeRoute:
    """A route or router that flask does not see, and the methods that stay."""

    def __init__(self, router: Any) -> None:
        self._router = router
        modules = _modules_of(router)
        # What comes from no known module keeps no method: a new MLflow opens nothing by itself.
        allowed = [
            _ALLOWED_METHODS.get(
                module,
                frozenset(),
            )
            for module in modules
        ]
        self._stays: frozenset[str] = frozenset()
        # Only what all of them allow: a part that allows more must not open the others.
        if allowed:
            self._stays = frozenset.intersection(*allowed)

    def refuses(self, scope: Any) -> bool:
        """Whether the request is for this route, by a method that does not stay."""
        match = self._router.matches(dict(scope))[0]
        if match is Match.NONE:
            return False
        return scope["method"] not in self._stays


def _without_other_routes(app: Any, native: list[_NativeRoute]) -> Any:
    async def refusing_app(scope: Any, receive: Any, send: Any) -> None:
        is_http = scope["type"] == "http"
        if is_http and any(route.refuses(scope) for route in native):
            refusal = PlainTextResponse("This server does not offer that.", 403)
            await refusal(scope, receive, send)
        else:
            await app(scope, receive, send)

    return refusing_app
