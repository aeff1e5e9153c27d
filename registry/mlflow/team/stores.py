"""MLflow's stores behind the rules, as its entry points and the app open them.

`assay+sqlite:///…` and `assay+postgresql://…` lead here wherever this package is installed. The app
`assay` has the plain addresses lead here as well, so that a forgotten `assay+` opens nothing.
"""

import os
from functools import cache
from typing import Any

from registry.mlflow.approving import with_approvals
from registry.mlflow.guarded_stores import check_classified, guard_store
from registry.mlflow.team.reach import ModelsReach, RecordsReach
from registry.mlflow.team.rules import TEAM_TRACKING, team_models
from registry.mlflow.team.settings import read_team

PREFIX = "assay+"


def open_models(store_uri: str) -> Any:
    """MLflow's store of models.

    `RegistryError` where the settings do not do, or MLflow can do what no rule is for.
    """
    guarded = models_class()
    address = plain_address(store_uri)
    return guarded(address, read_db_uri=_replica())


def open_records(store_uri: str, artifact_uri: str | None = None) -> Any:
    """MLflow's store of runs, as `open_models`."""
    # As MLflow's own opener where no place was given.
    location = artifact_uri or "./mlruns"
    guarded = records_class()
    address = plain_address(store_uri)
    return guarded(
        address,
        location,
        read_db_uri=_replica(),
    )


def plain_address(store_uri: str) -> str:
    """The address as the database's driver knows it."""
    return store_uri.removeprefix(PREFIX)


@cache
def models_class() -> Any:
    """MLflow's store of models with each changing method behind its rule."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    team = read_team()
    desk = team.desk
    rules = team_models(desk)
    check_classified(SqlAlchemyStore, rules)
    reach = ModelsReach(team)
    guarded = guard_store(SqlAlchemyStore, rules, reach)
    return with_approvals(guarded, desk, reach)


@cache
def records_class() -> Any:
    """MLflow's store of runs with each changing method behind its rule."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    check_classified(SqlAlchemyStore, TEAM_TRACKING)
    return guard_store(SqlAlchemyStore, TEAM_TRACKING, RecordsReach(read_team()))


def _replica() -> str | None:
    from mlflow.server.constants import READ_REPLICA_BACKEND_STORE_URI_ENV_VAR

    address = os.environ.get(READ_REPLICA_BACKEND_STORE_URI_ENV_VAR)
    return plain_address(address) if address else None
