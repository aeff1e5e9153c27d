"""THE MAIN PATH: from rows and a base model to a judged, registered adapter. Read it top to bottom.

    raw rows ─ split ─ ValidationReport ─ BiasReport ─admit─ TrainingSet ─ Adapter ─ Completions
             ─ Scorecard ─screen─ Finalist ─ Confirmation ─ ModelVersion @challenger

Either gate may answer Rejection or Undecided instead. The run ends there and is recorded. What was
brought, an adapter of another tool or a prompt, goes the same path: `flows/judge_brought.py`.
"""

from prefect import flow

from core.project import Project, find_project
from core.settings import Settings
from flows.run.artifacts import Verdict
from flows.run.attempt import Attempt
from flows.run.candidate import Candidate
from flows.run.comparators import place_comparators
from flows.run.dead_runs import end_dead_runs
from flows.run.mlflow_run import ended_on_error, flat_params, forwarded_progress
from flows.run.outcome import Outcome
from flows.run.previous import champion_made_again, earlier_outcome, outcome_of_recipe
from flows.run.record import record_verdict
from flows.run.report import publish, rename_run
from flows.run.reproduce import version_inputs
from flows.run.request import TrainRequest
from flows.run.rescoring import score_with_new_code
from flows.run.reserve import confirm_on_reserve
from flows.run.seen_groups import note_scored_groups, place_seen_groups
from flows.run.stage_task import run_stage
from flows.run.stages import admit_rows, evaluate_adapter
from flows.run.training_lock import training_turn
from flows.run.work_key import identify, recipe_of
from flows.run.workspace import Workspace, open_workspace
from flows.schedule.arrivals import revision_in
from pipelines.values.champion import Champion
from registry.ledger.ledger import open_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import AUTHOR, DATA_REVISION, MODEL, RECIPE, WORKSPACE
from registry.mlflow.store import Store
from registry.release.people import acting_name


@flow(
    name="train",
    flow_run_name="{request.title}",
    validate_parameters=False,
)
def train(request: TrainRequest) -> Outcome:
    """Take the request's rows and base model to a verdict, once no other run trains the model."""
    home = Settings().home
    project = find_project(home)
    with training_turn(project.home, request.model):
        return train_to_verdict(project, request)


def train_to_verdict(project: Project, request: TrainRequest) -> Outcome:
    """Go the whole path inside the present flow run; a rejection is a result, not a failure."""
    candidate = Candidate(title=request.title, make=_fine_tune)
    return to_verdict(project, request, candidate)


def to_verdict(
    project: Project, request: TrainRequest, candidate: Candidate
) -> Outcome:
    """Take a candidate from the request's rows to its verdict, in a workspace of its own."""
    store = open_store(project)
    # A version that cannot be entered could never be released: fail before anything is trained.
    open_ledger(project.home)
    end_dead_runs(store, project)
    with open_workspace(project, request) as workspace:
        outcome = _judge_in(workspace, store, request.model, candidate)
        # Its scores may be of an older Assay.
        if outcome.is_champion and not candidate.brought:
            rows = revision_in(workspace.root)
            outcome = score_with_new_code(workspace, store, outcome, rows)
        publish(outcome, store.address)
        rename_run(outcome)
        return outcome


def _judge_in(
    workspace: Workspace, store: Store, model: str, candidate: Candidate
) -> Outcome:
    """The outcome of the same work before where there is one, else that of a new attempt."""
    # Who wanted the run, and on which rows: MLflow's pages show both.
    tags = {
        MODEL: model,
        AUTHOR: acting_name(workspace.project.root),
        DATA_REVISION: revision_in(workspace.root),
        WORKSPACE: workspace.run_id,
        **candidate.tags,
    }
    # Inputs are placed before the work is identified: its digest covers them.
    version_inputs(workspace)
    place_comparators(store, model, workspace)
    logical_run = candidate.work(identify(workspace.root, model))
    recipe = candidate.work(recipe_of(workspace.root))
    place_seen_groups(workspace, store, model, logical_run)
    # Asked first: a recipe of the champion is no new logical run once the champion has changed.
    outcome = outcome_of_recipe(
        store,
        model,
        recipe,
        workspace.home,
    )
    if outcome is not None:
        return outcome
    # An attempt that was cut short is found here by its logical run and resumed.
    run = store.runs.begin(logical_run, candidate.title, {**tags, RECIPE: recipe})
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
        return record_verdict(attempt, _make_and_evaluate(attempt, candidate))


def _make_and_evaluate(attempt: Attempt, candidate: Candidate) -> Verdict | Champion:
    """Run every stage in its order, up to the gate that ends the run.

    Where the candidate is the champion once more, that champion is the answer: no gate compares a
    model with itself.
    """
    refusal = admit_rows(attempt.workspace)
    if refusal is not None:
        return refusal
    candidate.make(attempt)
    champion = champion_made_again(attempt.root)
    if champion is not None:
        return champion
    note_scored_groups(attempt.workspace, attempt.model)
    verdict = evaluate_adapter(attempt.workspace)
    candidate.follow(attempt)
    # The rows that judge every candidate only propose: others, which chose nothing, confirm.
    return confirm_on_reserve(attempt, verdict)


def _fine_tune(attempt: Attempt) -> None:
    # Only training takes long enough for curves.
    with forwarded_progress(attempt):
        run_stage(attempt.workspace, "fine_tune")
