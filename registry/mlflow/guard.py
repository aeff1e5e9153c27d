"""MLflow's server with Assay's rules between its routes and what they would change.

Stores and artifacts are the places where a change happens, whichever route, encoding or method asked for it. Routes that reach
neither, such as those of MLflow's assistant, which runs commands on this machine, are refused.
"""

import os
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount

from registry.mlflow.acting import remembers_requests, take_requests
from registry.mlflow.guarded_stores import MODELS, TRACKING, guarded

_ROUTES = {
    "mlflow.server.artifact_router": frozenset({"GET", "HEAD"}),
    "mlflow.server.job_api": frozenset({"GET", "HEAD"}),
    "mlflow.server.mcp_server_api": frozenset({"GET", "HEAD"}),
    "mlflow.server.otel_api": frozenset({"POST"}),
    "mlflow.server.server_info_api": frozenset({"GET", "HEAD"}),
}
"""Of the routes that flask does not see, those that stay, by the module that has them. Traces go through the tracking store."""
_OWN_DISK = ("", "file")
_REFERENCES = ("runs", "models", "mlflow-artifacts")
"""Artifact addresses that MLflow turns into others, which come by here again."""


def install() -> None:
    """Have MLflow use the guarded stores and artifacts wherever this process opens any from now on.

    By registering them itself: an entry point would be missing where an environment was made before this module.
    """
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Models
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    from registry.mlflow.guarded_artifacts import ARTIFACT_ROOT

    own_tracking, own_models = guarded(Tracking, TRACKING), guarded(Models, MODELS)

    def tracking(store_uri: str, artifact_uri: str | None = None) -> Any:
        return own_tracking(store_uri, artifact_uri or os.environ[ARTIFACT_ROOT])

    def models(store_uri: str) -> Any:
        return own_models(store_uri)

    for places, store in zip(_store_registries(), (tracking, models), strict=True):
        for place in places:
            place.register("sqlite", store)
    _install_artifacts()


def _store_registries() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Where the server's routes look for a store of runs and of models, and where MLflow's clients in this process do."""
    from mlflow.server import handlers
    from mlflow.tracking._model_registry import utils as models
    from mlflow.tracking._tracking_service import utils as tracking

    runs = (handlers._tracking_store_registry, tracking._tracking_store_registry)  # noqa: SLF001 - MLflow has no public name
    return runs, (handlers._model_registry_store_registry, models._get_store_registry())  # type: ignore[no-untyped-call]  # noqa: SLF001


def _install_artifacts() -> None:
    from mlflow.store.artifact.artifact_repository_registry import (
        _artifact_repository_registry as places,
    )

    from registry.mlflow.guarded_artifacts import GuardedArtifacts, other_places

    for scheme in tuple(places.get_registered_artifact_repositories()):  # type: ignore[no-untyped-call]
        if scheme not in _REFERENCES:
            places.register(
                scheme, GuardedArtifacts if scheme in _OWN_DISK else other_places
            )  # type: ignore[no-untyped-call]


def guarded_app() -> Any:
    """MLflow's application with accounts; from here on nothing is changed without one."""
    from mlflow.server.auth import create_app
    from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores()
    app = create_app()
    take_requests()
    return remembers_requests(
        _without_other_routes(
            app,
            [_Native(route) for route in app.routes if not isinstance(route, Mount)],
        )
    )


class _Native:
    """A router that flask does not see, and the methods that stay."""

    def __init__(self, router: Any) -> None:
        self._router = router
        routes = (
            router.original_router.routes
            if hasattr(router, "original_router")
            else (router,)
        )
        modules = {
            route.endpoint.__module__ for route in routes if hasattr(route, "endpoint")
        }
        allowed = [_ROUTES.get(module, frozenset()) for module in modules]
        self._stays = frozenset.intersection(*allowed) if allowed else frozenset()

    def refuses(self, scope: Any) -> bool:
        is_its_own = self._router.matches(dict(scope))[0] is not Match.NONE
        return is_its_own and scope["method"] not in self._stays


def _without_other_routes(app: Any, native: list[_Native]) -> Any:
    async def asked(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and any(router.refuses(scope) for router in native):
            await PlainTextResponse("This server does not offer that.", 403)(
                scope, receive, send
            )
        else:
            await app(scope, receive, send)

    return asked
