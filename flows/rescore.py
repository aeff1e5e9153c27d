"""The champion once more on today's data: every stage of the main path but training. It never takes anything out of service."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prefect import flow
from prefect.states import Completed

from core.account import current_user
from core.files import digest_of_json
from core.notify import notify
from core.project import Project, find_project
from core.settings import Settings
from flows.retrain import told_on_error
from flows.run.outcome import Outcome
from flows.run.previous import earlier_outcome
from flows.run.record import ended_on_error, flat_params, record
from flows.run.report import mlflow_link, publish, rename_run, run_link
from flows.run.reproduce import version_inputs
from flows.run.request import TrainRequest
from flows.run.stage_task import run_stage
from flows.run.workspace import Workspace, identify, open_workspace, place_base_model
from flows.schedule.arrivals import revision_in
from pipelines import layout
from pipelines.values.evidence import Adapter
from pipelines.values.training_set import read_admission
from pipelines.values.verdict import Finalist, Rejection, Undecided, read_screen_verdict
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import (
    AUTHOR,
    CHAMPION,
    DATA_REVISION,
    KIND,
    MODEL,
    VERSION,
    WORKSPACE,
    ModelVersion,
)
from registry.mlflow.store import Store

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_DEFAULT = TrainRequest()
_MADE_WITH = ("base_model", "generation", "lora", "train")
"""Parameters that belong to the champion, whatever params.yaml says today."""


@flow(name="rescore", flow_run_name="champion of {request.model} again")
def rescore(request: TrainRequest = _DEFAULT) -> "State[Any]":
    """Score the champion again on today's data; one that no longer passes is told to people and goes on serving.

    Args:
        request: The model, and the data to score on. Base, prompt and decoding are the champion's own.
    """
    project = find_project(Settings().home)
    with told_on_error(project, request.model):
        store = open_store(project)
        champion = store.holder(request.model, CHAMPION)
        if champion is None:
            return Completed(
                name="NoChampion",
                message=f"{request.model} has no champion: there is nothing to score again.",
            )
        outcome = _rescored(project, store, request, champion)
        _tell(project, store, champion, outcome)
        return Completed(
            name=outcome.verdict.capitalize(),
            message=f"Version {champion.version} of {request.model}: {outcome.result}",
        )


def _rescored(
    project: Project, store: Store, request: TrainRequest, champion: ModelVersion
) -> Outcome:
    package = store.fetch(champion, project.home / "packages" / champion.package_sha256)
    with open_workspace(project, _as_made(request, package)) as workspace:
        tags = {
            MODEL: request.model,
            AUTHOR: current_user(),
            KIND: "rescore",
            VERSION: champion.version,
            WORKSPACE: workspace.run_id,
        }
        tags[DATA_REVISION] = revision_in(workspace.root)
        version_inputs(workspace)
        logical_run = digest_of_json(
            {
                "rescored": champion.package_sha256,
                "of": identify(workspace, request.model),
            }
        )
        run = store.runs.begin(logical_run, f"champion {champion.version} again", tags)
        outcome = earlier_outcome(
            store, run, logical_run, request.model, project.home, registers=False
        )
        if outcome is None:
            with ended_on_error(store, run):
                store.runs.log_params(run.run_id, flat_params(workspace))
                verdict = _judge(workspace, package)
                outcome = record(
                    workspace,
                    store,
                    run,
                    verdict,
                    logical_run,
                    request.model,
                    registers=False,
                )
        publish(outcome, store.address)
        rename_run(outcome)
        return outcome


def _judge(workspace: Workspace, package: Path) -> Finalist | Rejection | Undecided:
    """Every stage in its order, with the champion's adapter where training would have put one."""
    run_stage(workspace, "base_model")
    place_base_model(workspace)
    run_stage(workspace, "collect")
    run_stage(workspace, "split")
    run_stage(workspace, "validate")
    run_stage(workspace, "bias")
    run_stage(workspace, "admit")
    admission = read_admission(workspace.root / layout.ADMIT_VERDICT)
    if isinstance(admission, Rejection | Undecided):
        return admission
    _place_adapter(package, workspace.root)
    run_stage(workspace, "prompt_baselines")
    run_stage(workspace, "generate")
    run_stage(workspace, "score")
    run_stage(workspace, "screen")
    return read_screen_verdict(workspace.root / layout.SCREEN_VERDICT)


def _place_adapter(package: Path, root: Path) -> None:
    """Put the package's adapter and its record where `generate` reads them; every byte is checked there once more."""
    adapter = Adapter.read(package / "adapter.json")
    shutil.rmtree(root / layout.FINE_TUNE, ignore_errors=True)
    shutil.copytree(package / "adapter", root / adapter.folder)
    for name in ("adapter.json", "progress.jsonl"):
        if (package / name).is_file():
            shutil.copyfile(package / name, root / layout.FINE_TUNE / name)


def _as_made(request: TrainRequest, package: Path) -> TrainRequest:
    """The request with the parameters that the champion was made with."""
    document = yaml.safe_load((package / "params.yaml").read_text(encoding="utf-8"))
    own = {
        f"{section}.{name}": entry
        for section in _MADE_WITH
        for name, entry in document[section].items()
    }
    return request.model_copy(update={"settings": {**request.settings, **own}})


def _tell(
    project: Project, store: Store, champion: ModelVersion, outcome: Outcome
) -> None:
    passed = outcome.verdict == "passed"
    what = (
        "passes on today's data"
        if passed
        else f"no longer passes ({outcome.verdict}); it goes on serving"
    )
    reasons = () if passed else tuple(f"- {reason}" for reason in outcome.reasons[:5])
    sentence = f"The champion of {champion.name}, version {champion.version}, {what}."
    links = (
        f"MLflow: {mlflow_link(store.address, outcome.run_id)}",
        f"Prefect: {run_link()}",
    )
    title = (
        f"Assay: champion of {champion.name} {'passes' if passed else 'needs a look'}"
    )
    notify(
        project.home,
        title,
        "\n".join((sentence, *reasons, *links)),
        sends=not (passed and outcome.unchanged),
    )
