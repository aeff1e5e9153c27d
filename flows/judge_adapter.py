"""Judge an adapter that was trained elsewhere: every stage of the main path but training.

    raw rows ─ split ─ … ─admit─ TrainingSet      adapter ─ take in ─┐
             ─ Completions ─ Scorecard ─screen─ Finalist ─ ModelVersion @challenger

Signature, ledger entry and verdict are as of any other version. `membership.json` beside them says
what can be said of the question whether it was trained on the held-out rows.
"""

from pathlib import Path

from prefect import flow

from core.files import digest_of_json
from core.project import Project, find_project
from core.settings import Settings
from flows.run.artifacts import Verdict
from flows.run.attempt import Attempt
from flows.run.comparators import place_comparators
from flows.run.dead_runs import end_dead_runs
from flows.run.mlflow_run import ended_on_error, flat_params
from flows.run.outcome import Outcome
from flows.run.previous import champion_made_again, earlier_outcome, outcome_of_recipe
from flows.run.record import record_verdict
from flows.run.report import publish, rename_run
from flows.run.reproduce import version_inputs
from flows.run.request import TrainRequest
from flows.run.reserve import confirm_on_reserve
from flows.run.seen_groups import note_scored_groups, place_seen_groups
from flows.run.stages import admit_rows, evaluate_adapter
from flows.run.taking_in import place_adapter, probe
from flows.run.training_lock import training_turn
from flows.run.work_key import identify, recipe_of
from flows.run.workspace import Workspace, open_workspace
from flows.schedule.arrivals import revision_in
from pipelines.models.foreign_config import ForeignAdapter, read_foreign_adapter
from pipelines.values.champion import Champion
from registry.ledger.ledger import open_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import (
    AUTHOR,
    DATA_REVISION,
    KIND,
    MODEL,
    RECIPE,
    WORKSPACE,
)
from registry.mlflow.store import Store
from registry.release.people import acting_name


@flow(
    name="judge-adapter",
    flow_run_name="{adapter.name} for {request.model}",
    validate_parameters=False,
)
def judge_adapter(request: TrainRequest, adapter: Path) -> Outcome:
    """Take an adapter that was trained elsewhere to a verdict on the request's rows and base."""
    project = find_project(Settings().home)
    # Read first: what cannot be taken in is refused before anything is written.
    foreign = read_foreign_adapter(adapter)
    with training_turn(project.home, request.model):
        return _to_verdict(project, _with_lora(request, foreign), foreign)


def _with_lora(request: TrainRequest, foreign: ForeignAdapter) -> TrainRequest:
    """The request with the adapter's own rank and scale among its parameters."""
    lora = foreign.lora
    settings = {
        "lora.r": lora.r,
        "lora.alpha": lora.alpha,
        "lora.dropout": lora.dropout,
    }
    # Its own come last: an adapter cannot be given another rank by a setting.
    merged = {**request.settings, **settings}
    return request.model_copy(update={"settings": merged})


def _to_verdict(
    project: Project, request: TrainRequest, foreign: ForeignAdapter
) -> Outcome:
    store = open_store(project)
    # A version that cannot be entered could never be released.
    open_ledger(project.home)
    end_dead_runs(store, project)
    with open_workspace(project, request) as workspace:
        outcome = _judge_in(
            workspace,
            store,
            request,
            foreign,
        )
        publish(outcome, store.address)
        rename_run(outcome)
        return outcome


def _judge_in(
    workspace: Workspace, store: Store, request: TrainRequest, foreign: ForeignAdapter
) -> Outcome:
    """The outcome of the same work before where there is one, else that of a new attempt."""
    model = request.model
    # Inputs are placed before the work is identified: its digest covers them.
    version_inputs(workspace)
    place_comparators(store, model, workspace)
    logical_run = _of_adapter(foreign, identify(workspace.root, model))
    recipe = _of_adapter(foreign, recipe_of(workspace.root))
    place_seen_groups(workspace, store, model, logical_run)
    outcome = outcome_of_recipe(
        store,
        model,
        recipe,
        workspace.home,
    )
    if outcome is not None:
        return outcome
    # Another kind than training: new rows are not taken for rows that were trained on.
    tags = {
        MODEL: model,
        KIND: "judge",
        AUTHOR: acting_name(workspace.project.root),
        DATA_REVISION: revision_in(workspace.root),
        WORKSPACE: workspace.run_id,
        RECIPE: recipe,
    }
    title = f"{foreign.folder.name} trained elsewhere"
    run = store.runs.begin(logical_run, title, tags)
    attempt = Attempt(
        workspace,
        store,
        run,
        logical_run,
        model,
    )
    outcome = earlier_outcome(attempt)
    if outcome is not None:
        return outcome
    with ended_on_error(store, run):
        store.runs.log_params(run.run_id, flat_params(workspace))
        return record_verdict(attempt, _evaluate(attempt, foreign))


def _of_adapter(foreign: ForeignAdapter, work: str) -> str:
    """The work on these rows, for this adapter: by its bytes as they were brought."""
    brought = foreign.provenance
    return digest_of_json(
        {
            "weights": brought.weights_sha256,
            "config": brought.config_sha256,
            "of": work,
        }
    )


def _evaluate(attempt: Attempt, foreign: ForeignAdapter) -> Verdict | Champion:
    """Run every stage in its order, with the adapter where training would have put one."""
    workspace = attempt.workspace
    refusal = admit_rows(workspace)
    if refusal is not None:
        return refusal
    place_adapter(workspace, foreign)
    champion = champion_made_again(workspace.root)
    if champion is not None:
        return champion
    note_scored_groups(workspace, attempt.model)
    verdict = evaluate_adapter(workspace)
    # Of a rejected adapter, too: its page may explain why it was rejected.
    probe(workspace)
    # As of what was trained here: the rows that judge every candidate only propose.
    return confirm_on_reserve(attempt, verdict)
