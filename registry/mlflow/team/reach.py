"""What is governed on a team's server, asked of MLflow's own tables.

A model is governed by its name. A run or a logged model is governed as soon as a version of a
governed model came from it: without them the version could not be judged or loaded.
"""

import os
from collections.abc import Iterator
from typing import Any

from registry.mlflow.guarded_reviews import REVIEW_RULES, is_of_review
from registry.mlflow.guarded_stores import (
    Call,
    Reach,
    is_governed,
    logged_model_ids,
    normalize,
    run_ids,
    tag_keys,
)
from registry.mlflow.inbox import ANSWER
from registry.mlflow.team.settings import Team

_OF_EXPERIMENTS = frozenset({"delete_experiment", "rename_experiment"})
_DELETIONS = frozenset({*_OF_EXPERIMENTS, "delete_run", "delete_logged_model"})
_ANSWER = normalize(ANSWER)
_TAGGING_RUNS = frozenset({"create_run", "log_batch", "set_tag", "delete_tag"})
_USES = frozenset({"log_inputs", "log_outputs"})
"""A run may use a governed model, such as to compare with it."""


class ModelsReach(Reach):
    """Calls of MLflow's store of models."""

    trusts_start = False

    def __init__(self, team: Team) -> None:
        self._governed = team.governed
        self.service = team.service

    def concerns(self, call: Call) -> bool:
        """Whether it names a governed model, as what is changed or as what it becomes."""
        for parameter in ("name", "new_name", "dst_name"):
            name = call.arguments.get(parameter)
            if name is None:
                continue
            # As text: MLflow has not looked at it yet.
            text = str(name)
            if self._governed.has(text):
                return True
        return False

    def holds_model(self, store: Any, name: str) -> bool:
        """Whether the model is listed; the store is not asked."""
        return self._governed.has(name)

    def takes_approvals(self, name: str) -> bool:
        """Whether the model is listed."""
        return self._governed.has(name)

    def explain_model(self, name: str) -> str:
        """Why it is not everybody's."""
        return f"The versions of {name[:100]!r} are governed by Assay"


class RecordsReach(Reach):
    """Calls of MLflow's store of runs, logged models and traces."""

    trusts_start = False

    def __init__(self, team: Team) -> None:
        self._versions = GovernedVersions(team)
        self.service = team.service

    def concerns(self, call: Call) -> bool:
        """Whether it is about what a governed version came from, or answers a transfer."""
        # A sender believes that answer, whichever experiment the run is in.
        if _answers_a_transfer(call):
            return True
        if call.method in REVIEW_RULES:
            return is_of_review(call)
        if call.method in _OF_EXPERIMENTS:
            experiment = str(call.arguments["experiment_id"])
            return self._versions.are_in(call.store, experiment)
        for run_id in _runs(call):
            if self._versions.came_from_run(call.store, run_id):
                return True
        came_from = self._versions.came_from_logged_model
        model_ids = _logged_models(call)
        return any(came_from(call.store, model_id) for model_id in model_ids)

    def check_records(self, call: Call) -> None:
        """Refuse deletions, and any change of a run that Assay itself recorded."""
        # A person's own run goes on after its model was registered: its numbers decide nothing.
        if call.method not in _DELETIONS and not self._is_recorded(call):
            return
        call.refuse(
            "A version of a model that Assay governs came from it, "
            f"so that it is changed by the account {self.service!r} alone"
        )

    def _is_recorded(self, call: Call) -> bool:
        store = call.store
        for run_id in _runs(call):
            if is_governed(store, store.get_run(run_id).info.experiment_id):
                return True
        for model_id in _logged_models(call):
            if is_governed(store, store.get_logged_model(model_id).experiment_id):
                return True
        return False


def _answers_a_transfer(call: Call) -> bool:
    if call.method not in _TAGGING_RUNS:
        return False
    named = tag_keys(call.arguments)
    # As MLflow compares them: another spelling is the same tag to it.
    keys = map(normalize, named)
    return _ANSWER in keys


def _runs(call: Call) -> Iterator[str]:
    return run_ids(call.arguments)


def _logged_models(call: Call) -> Iterator[str]:
    if call.method not in _USES:
        yield from logged_model_ids(call.arguments)


class GovernedVersions:
    """The versions of governed models, and what they came from."""

    def __init__(self, team: Team) -> None:
        self._governed = team.governed

    def came_from_run(self, tracking: Any, run_id: str) -> bool:
        """Whether a governed version names that run."""
        from mlflow.store.model_registry.dbmodels.models import SqlModelVersion

        return self._any_name(tracking, SqlModelVersion.run_id == run_id)

    def came_from_logged_model(self, tracking: Any, model_id: str) -> bool:
        """Whether a governed version's files are those of that logged model."""
        from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
        from sqlalchemy import or_

        # A version from before the plug-in may name the files by their place.
        is_there = SqlModelVersion.storage_location.contains(model_id, autoescape=True)
        is_named = SqlModelVersion.source.contains(model_id, autoescape=True)
        return self._any_name(tracking, or_(is_named, is_there))

    def are_in(self, tracking: Any, experiment_id: str) -> bool:
        """Whether an experiment holds what a governed version came from."""
        from mlflow.store.tracking.dbmodels.models import SqlLoggedModel, SqlRun

        with tracking.ManagedSessionMaker() as session:
            is_in = SqlRun.experiment_id == experiment_id
            query = session.query(SqlRun.run_uuid)
            runs = query.filter(is_in).all()
            is_in = SqlLoggedModel.experiment_id == experiment_id
            query = session.query(SqlLoggedModel.model_id)
            models = query.filter(is_in).all()
        for (run_id,) in runs:
            if self.came_from_run(tracking, run_id):
                return True
        came_from = self.came_from_logged_model
        return any(came_from(tracking, model_id) for (model_id,) in models)

    def locations(self, tracking: Any) -> list[str]:
        """Where their files lie, and the evidence of those that Assay recorded."""
        from mlflow.store.model_registry.dbmodels.models import (
            SqlModelVersion,
            SqlRegisteredModel,
        )

        registry = _registry_of(tracking)
        with registry.ManagedSessionMaker() as session:
            every = session.query(SqlRegisteredModel.name)
            names = [name for (name,) in every if self._governed.has(name)]
            columns = (SqlModelVersion.storage_location, SqlModelVersion.source)
            query = session.query(*columns, SqlModelVersion.run_id)
            rows = query.filter(SqlModelVersion.name.in_(names)).all()
        places = []
        own_runs = set()
        for location, source, run_id in rows:
            own_runs.add(run_id)
            # A version from before MLflow kept places has its source alone.
            place = location or source
            if place:
                places.append(place)
        return places + _evidence(tracking, own_runs)

    def _any_name(self, tracking: Any, condition: Any) -> bool:
        from mlflow.store.model_registry.dbmodels.models import SqlModelVersion

        # From the table: the store's methods go through versions page by page.
        with _registry_of(tracking).ManagedSessionMaker() as session:
            query = session.query(SqlModelVersion.name)
            rows = query.filter(condition).distinct().all()
        # One that only looks like a governed model is one.
        has = self._governed.has
        return any(has(name) for (name,) in rows)


def _evidence(tracking: Any, own_runs: set[str]) -> list[str]:
    from mlflow.store.tracking.dbmodels.models import SqlRun

    with tracking.ManagedSessionMaker() as session:
        columns = (SqlRun.artifact_uri, SqlRun.experiment_id)
        query = session.query(*columns)
        rows = query.filter(SqlRun.run_uuid.in_(own_runs)).all()
    # A person's own run goes on: its files decide nothing.
    return [
        location
        for location, experiment in rows
        if is_governed(tracking, str(experiment))
    ]


def _registry_of(tracking: Any) -> Any:
    """The store of models beside that of runs: of the server's settings, else the same database."""
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR
    from mlflow.server.handlers import _get_model_registry_store

    if os.environ.get(BACKEND_STORE_URI_ENV_VAR):
        return _get_model_registry_store()
    return tracking
