"""Score the champion again on today's data: every stage of the main path but training.

People are alarmed where it is shown to be worse than something; it goes on serving.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prefect import flow
from prefect.states import Completed

from core.notify import notify
from core.project import Project, find_project
from core.settings import Settings
from flows.retrain import notified_on_error
from flows.run.artifacts import Verdict
from flows.run.attempt import fetch_package_of
from flows.run.model_files import complete
from flows.run.outcome import Outcome
from flows.run.predecessor import (
    Serving,
    enter_rescore,
    find_serving,
    place_predecessor,
)
from flows.run.report import mlflow_link, publish, rename_run, run_link
from flows.run.reproduce import version_inputs
from flows.run.request import TrainRequest
from flows.run.rescoring import rescore as score_again
from flows.run.seen_groups import place_seen_groups
from flows.run.stages import admit_rows, evaluate_adapter
from flows.run.workspace import Workspace, open_workspace
from flows.schedule.arrivals import revision_in
from pipelines import layout
from pipelines.engines import TRANSFORMERS
from pipelines.gates.policy import load_policy
from pipelines.values.evidence import Adapter
from pipelines.values.verdict import Finding
from registry.ledger.state import RecordedRelease
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import ModelVersion
from registry.mlflow.store import Store
from registry.release.rescore import find_losses

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_DEFAULT = TrainRequest()
_FROM_TRAINING = ("base_model", "generation", "lora", "train")
"""Sections of params.yaml that belong to the champion, whatever the file says today.

So do the settings of BLEU, without which its scores could not be compared with those of then.
"""
_MOST_REASONS = 5


@flow(name="rescore", flow_run_name="champion of {request.model} again")
def rescore(request: TrainRequest = _DEFAULT) -> "State[Any]":
    """Score the champion again on today's data; report one that is shown to be worse.

    Prefect shows these words in its run form.

    Args:
        request: The model, and the data to score on. Base, prompt and decoding are the champion's.
    """
    project = find_project(Settings().home)
    with notified_on_error(project, request.model):
        request = complete(request, project.root)
        store = open_store(project)
        serving = find_serving(store, request.model, project.home)
        # A new project has a schedule before it has a champion.
        if serving is None:
            sentence = (
                f"{request.model} has no champion: there is nothing to score again."
            )
            return Completed(name="NoChampion", message=sentence)
        champion = serving.version
        package = fetch_package_of(store, champion, project.home)
        with open_workspace(project, _as_trained(request, package)) as workspace:
            version_inputs(workspace)
            place_seen_groups(workspace, store, champion.name)
            against = place_predecessor(serving, store, workspace)
            losses: list[Finding] = []

            def evaluate(there: Workspace) -> Verdict:
                verdict = _evaluate_and_enter(there, package, serving, against)
                policy = load_policy(there.root / layout.POLICY)
                losses.extend(find_losses(verdict, policy))
                return verdict

            outcome = score_again(
                workspace,
                store,
                champion,
                evaluate,
                revision_in(workspace.root),
            )
            publish(outcome, store.address)
            rename_run(outcome)
        _notify(
            project,
            store,
            champion,
            _Told(outcome, tuple(losses)),
        )
        message = f"Version {champion.version} of {request.model}: {outcome.result}"
        return Completed(name=outcome.verdict.capitalize(), message=message)


def _evaluate_and_enter(
    workspace: Workspace,
    package: Path,
    serving: Serving,
    against: RecordedRelease | None,
) -> Verdict:
    """Score what serves, and have the ledger hold what that says of it."""
    verdict = _evaluate(workspace, package)
    # Before the run has its verdict: a run that was killed is done again, and enters it then.
    enter_rescore(
        serving,
        against,
        workspace,
        verdict,
    )
    return verdict


def _evaluate(workspace: Workspace, package: Path) -> Verdict:
    """Run the stages, with the champion's adapter where training would have put one."""
    refusal = admit_rows(workspace)
    if refusal is not None:
        return refusal
    _place_adapter(package, workspace.root)
    return evaluate_adapter(workspace)


def _place_adapter(package: Path, root: Path) -> None:
    """Copy the package's adapter to where `generate` reads it, and checks every byte once more."""
    adapter = Adapter.read(package / "adapter.json")
    # Whatever is there must not be mixed with the champion's files.
    shutil.rmtree(root / layout.FINE_TUNE, ignore_errors=True)
    shutil.copytree(package / "adapter", root / adapter.folder)
    for name in ("adapter.json", "progress.jsonl"):
        source = package / name
        if source.is_file():
            shutil.copyfile(source, root / layout.FINE_TUNE / name)


def _as_trained(request: TrainRequest, package: Path) -> TrainRequest:
    """The request with the parameters that the champion was trained with."""
    text = (package / "params.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    settings = dict(request.settings)
    # Files leave it out where it is the usual one, and today's file may name another.
    settings["generation.engine"] = TRANSFORMERS
    for section in _FROM_TRAINING:
        for name, setting in document[section].items():
            settings[f"{section}.{name}"] = setting
    # Older packages have no such section.
    for name, setting in document["score"].get("bleu", {}).items():
        settings[f"score.bleu.{name}"] = setting
    schema = document["score"].get("json_schema")
    if schema is not None:
        settings["score.json_schema"] = schema
    return request.model_copy(update={"settings": settings})


@dataclass(frozen=True)
class _Told:
    """What people are told of: the outcome, and the losses that are shown."""

    outcome: Outcome
    losses: tuple[Finding, ...]

    @property
    def title(self) -> str:
        if self.outcome.unchanged:
            return "was scored before"
        if self.losses:
            return "is worse"
        if self.outcome.verdict == "passed":
            return "passes"
        return "is not judged" if self.outcome.gate == "admit" else "cannot be told"

    @property
    def fact(self) -> str:
        """The rest of a sentence about the champion."""
        # What was said then stands: the same rows say nothing more.
        if self.outcome.unchanged:
            return f"was scored on these rows before ({self.outcome.verdict})"
        if self.losses:
            return "is shown to be worse on today's data; it goes on serving"
        if self.outcome.verdict == "passed":
            return "passes on today's data"
        if self.outcome.gate == "admit":
            return f"was not scored: admit says {self.outcome.verdict} of today's data"
        return (
            "is not shown to be worse on today's data, nor to be better again: "
            "too few rows to tell"
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        if self.losses:
            texts = [finding.text for finding in self.losses]
            return tuple(texts)
        if self.outcome.verdict == "passed":
            return ()
        return self.outcome.reasons


def _notify(
    project: Project, store: Store, champion: ModelVersion, told: _Told
) -> None:
    """Tell people what the scores say; rows that were scored before are no news."""
    outcome = told.outcome
    name, version = champion.name, champion.version
    sentence = f"The champion of {name}, version {version}, {told.fact}."
    reasons = [f"- {why}" for why in told.reasons[:_MOST_REASONS]]
    links = [
        f"MLflow: {mlflow_link(store.address, outcome.run_id)}",
        f"Prefect: {run_link()}",
    ]
    text = "\n".join([sentence, *reasons, *links])
    title = f"Assay: champion of {name} {told.title}"
    notify(project.home, title, text, sends=not outcome.unchanged)
