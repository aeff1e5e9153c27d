"""The champion scored once more: what the weekly flow and an upgrade of Assay have in common."""

import shutil
from collections.abc import Callable

from core.files import digest_of_json
from core.git import git
from flows.run.artifacts import Verdict
from flows.run.attempt import Attempt
from flows.run.mlflow_run import ended_on_error, flat_params
from flows.run.outcome import Outcome
from flows.run.previous import earlier_outcome
from flows.run.record import record_verdict
from flows.run.recorded_code import recorded_codes
from flows.run.stage_task import run_stage
from flows.run.stages import EVALUATION, admit_rows, evaluate_adapter
from flows.run.work_key import identify
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.stage_code import StageCode
from registry.mlflow.recorded import (
    AUTHOR,
    DATA_REVISION,
    KIND,
    MODEL,
    RESCORE,
    VERSION,
    WORKSPACE,
    ModelVersion,
)
from registry.mlflow.store import Store
from registry.release.people import acting_name


def score_with_new_code(
    workspace: Workspace, store: Store, outcome: Outcome, revision: str
) -> Outcome:
    """Score the champion again where the code that scores is not that of its own run.

    `outcome` says that the run made the champion's adapter: it is given back where its scores
    stand. `revision` names the rows. No gate compares a model with itself, so the champion is not
    among the comparators.
    """
    champion = store.get_version(outcome.model, outcome.version or "")
    if not _is_scored_otherwise(workspace, store, champion):
        return outcome
    _take_comparators_away(workspace)
    again = rescore(
        workspace,
        store,
        champion,
        _evaluate,
        revision,
    )
    return again.model_copy(
        update={
            "version": champion.version,
            "is_champion": True,
            "is_scored_again": True,
        }
    )


def rescore(
    workspace: Workspace,
    store: Store,
    champion: ModelVersion,
    evaluate: Callable[[Workspace], Verdict],
    revision: str,
) -> Outcome:
    """Record what `evaluate` says of the champion, as a run of its own that registers nothing.

    `revision` names the rows, so that a later run knows whether they have changed.
    """
    tags = {
        MODEL: champion.name,
        AUTHOR: acting_name(workspace.project.root),
        KIND: RESCORE,
        VERSION: champion.version,
        WORKSPACE: workspace.run_id,
        DATA_REVISION: revision,
    }
    # Another day's rows, or other code, make another run of the same champion.
    work = identify(workspace.root, champion.name)
    logical_run = digest_of_json({"rescored": champion.package_sha256, "of": work})
    run = store.runs.begin(logical_run, f"champion {champion.version} again", tags)
    attempt = Attempt(
        workspace,
        store,
        run,
        logical_run,
        champion.name,
    )
    outcome = earlier_outcome(attempt, registers=False)
    if outcome is not None:
        return outcome
    with ended_on_error(store, run):
        store.runs.log_params(run.run_id, flat_params(workspace))
        verdict = evaluate(workspace)
        return record_verdict(attempt, verdict, registers=False)


def _evaluate(workspace: Workspace) -> Verdict:
    # A run that was found again has run no stage in this workspace yet: its cache has all.
    if not (workspace.root / layout.ADAPTER).is_file():
        refusal = admit_rows(workspace)
        if refusal is not None:
            return refusal
        run_stage(workspace, "fine_tune")
    return evaluate_adapter(workspace)


def _is_scored_otherwise(
    workspace: Workspace, store: Store, champion: ModelVersion
) -> bool:
    """Whether the code that scores is another than in the champion's own run.

    False where that is not known: its scores stand until the weekly re-scoring.
    """
    earlier = store.runs.tags(champion.run_id).get(WORKSPACE, "")
    codes = recorded_codes(workspace.root, f"refs/assay/runs/{earlier}/done")
    folder = workspace.root / layout.CODE
    return any(
        codes[stage] != StageCode.read(folder / f"{stage}.json")
        for stage in EVALUATION
        if stage in codes
    )


def _take_comparators_away(workspace: Workspace) -> None:
    folder = workspace.root / layout.CHAMPION
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    # The very bytes of a project without a champion: answers that the cache has are not made again.
    pinned = layout.CHAMPION_INPUT.as_posix()
    git(workspace.root, "checkout", "--quiet", "HEAD", "--", pinned)
