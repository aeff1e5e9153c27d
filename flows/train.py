"""THE MAIN PATH: from rows and a base model to a judged, registered adapter. Read it from top to bottom.

raw rows ─► split ─► ValidationReport ─► BiasReport ─admit─► TrainingSet ─► Adapter ─► Completions ─► Scorecard ─screen─►
Finalist ─► ModelVersion @challenger.  Either gate may answer Rejection or Undecided instead: the run ends there, recorded.
"""

from prefect import flow

from core.account import current_user
from core.project import Project, find_project
from core.settings import Settings
from flows.run.dead_runs import end_dead_runs
from flows.run.outcome import Outcome
from flows.run.previous import champions_own, earlier_outcome, made_again
from flows.run.record import (
    check_comparators,
    ended_on_error,
    flat_params,
    forwarded_progress,
    place_champion,
    record,
)
from flows.run.report import publish, rename_run
from flows.run.reproduce import version_inputs
from flows.run.request import TrainRequest
from flows.run.stage_task import run_stage
from flows.run.training_lock import training_turn
from flows.run.workspace import (
    Workspace,
    identify,
    open_workspace,
    place_base_model,
    recipe_of,
)
from flows.schedule.arrivals import revision_in
from pipelines import layout
from pipelines.values.champion import Champion
from pipelines.values.training_set import read_admission
from pipelines.values.verdict import Finalist, Rejection, Undecided, read_screen_verdict
from registry.ledger.ledger import open_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import (
    AUTHOR,
    DATA_REVISION,
    MODEL,
    RECIPE,
    WORKSPACE,
    RecordedRun,
)
from registry.mlflow.store import Store


@flow(name="train", flow_run_name="{request.title}", validate_parameters=False)
def train(request: TrainRequest) -> Outcome:
    """Take the request's rows and base model to a verdict, once no other run trains the same model."""
    project = find_project(Settings().home)
    with training_turn(project.home, request.model):
        return to_verdict(project, request)


def to_verdict(project: Project, request: TrainRequest) -> Outcome:
    """The whole path, inside whatever flow run asks for it; a rejection is a result, not a failure."""
    store = open_store(project)
    open_ledger(
        project.home
    )  # a version that cannot be entered could never be released: said before anything is trained
    end_dead_runs(store, project)
    with open_workspace(project, request) as workspace:
        tags = {
            MODEL: request.model,
            AUTHOR: current_user(),
            DATA_REVISION: revision_in(workspace.root),
            WORKSPACE: workspace.run_id,
        }
        version_inputs(workspace)
        place_champion(store, request.model, workspace)
        logical_run, recipe = identify(workspace, request.model), recipe_of(workspace)
        known = champions_own(store, request.model, recipe, project.home)
        if known is not None:
            return _finished(known, store)
        run = store.runs.begin(logical_run, request.title, {**tags, RECIPE: recipe})
        known = earlier_outcome(store, run, logical_run, request.model, project.home)
        if known is not None:
            return _finished(known, store)
        with ended_on_error(store, run):
            store.runs.log_params(run.run_id, flat_params(workspace))
            return _finished(
                record(
                    workspace,
                    store,
                    run,
                    _judge(workspace, store, run),
                    logical_run,
                    request.model,
                ),
                store,
            )


def _judge(
    workspace: Workspace, store: Store, run: RecordedRun
) -> Finalist | Rejection | Undecided | Champion:
    """Every stage in its order, up to the gate that ends the run; no gate holds the champion against itself."""
    run_stage(workspace, "base_model")
    place_base_model(workspace)
    check_comparators(workspace)
    run_stage(workspace, "collect")
    run_stage(workspace, "split")
    run_stage(workspace, "validate")
    run_stage(workspace, "bias")
    run_stage(workspace, "admit")
    admission = read_admission(workspace.root / layout.ADMIT_VERDICT)
    if isinstance(admission, Rejection | Undecided):
        return admission

    with forwarded_progress(workspace, store, run):
        run_stage(workspace, "fine_tune")
    champion = made_again(workspace.root)
    if champion is not None:
        return champion

    run_stage(workspace, "prompt_baselines")
    run_stage(workspace, "generate")
    run_stage(workspace, "score")
    run_stage(workspace, "screen")
    return read_screen_verdict(workspace.root / layout.SCREEN_VERDICT)


def _finished(outcome: Outcome, store: Store) -> Outcome:
    publish(outcome, store.address)
    rename_run(outcome)
    return outcome
