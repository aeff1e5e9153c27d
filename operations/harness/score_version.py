"""`assay lm-eval`: tasks of lm-evaluation-harness for a version, kept with its run in MLflow.

It decides nothing: what the gates judge is in the evidence of the run.
"""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from core.console import say
from core.environment import set_library_environment
from core.errors import ParameterError, RegistryError
from core.files import write_text
from core.project import Project, find_project
from core.settings import Settings
from operations.harness.ask import (
    AskedModel,
    Harness,
    HarnessTasks,
    ask_harness,
    find_harness,
)
from operations.harness.report import FOLDER, HarnessReport
from operations.harness.results import read_scores
from operations.model_address import parse_model_address
from pipelines.models.base_store import locate_base_model
from pipelines.values.base_manifest import BaseModelManifest

if TYPE_CHECKING:
    from registry.mlflow.recorded import ModelVersion
    from registry.mlflow.store import Store


def score_version(address: str, tasks: HarnessTasks) -> HarnessReport:
    """Ask base and adapter, and keep the report with the version's run.

    `ParameterError` where program or folder is not there, the program cannot ask the tasks, or the
    version is a prompt; `RegistryError` where MLflow does not hold the version, or no run made it.
    """
    # Whether the hub is asked is the person's choice here: Assay's own libraries never do.
    person = dict(os.environ)
    set_library_environment()
    from registry.mlflow.home_store import open_store

    # Both before anything is fetched.
    _check_folder(tasks)
    harness = find_harness(person)
    project = find_project(Settings().home)
    store = open_store(project)
    named = parse_model_address(address)
    version = store.get_version(named.name, named.version)
    if not version.run_id:
        raise RegistryError(
            f"Version {version.version} of {version.name} has no run in MLflow to keep scores in."
        )
    report = _ask(harness, store, version, project, tasks)
    _keep(store, version, report)
    return report


def _check_folder(tasks: HarnessTasks) -> None:
    if tasks.folder is not None and not tasks.folder.is_dir():
        raise ParameterError(
            f"There is no folder {tasks.folder}. Give the one with the YAML files of your tasks."
        )


def _ask(
    harness: Harness,
    store: "Store",
    version: "ModelVersion",
    project: Project,
    tasks: HarnessTasks,
) -> HarnessReport:
    from flows.run.attempt import fetch_package_of

    # Every byte of it is compared with what was registered.
    package = fetch_package_of(store, version, project.home)
    base = BaseModelManifest.read(package / "base_model.json")
    weights = package / "adapter"
    if not (weights / "adapter_config.json").is_file():
        raise ParameterError(
            f"Version {version.version} of {version.name} is a prompt: lm-evaluation-harness "
            "would ask its base alone. Name a version with an adapter."
        )
    folder = locate_base_model(base, project.home)
    # As they are now: an hour later they may be others.
    own_tasks = tasks.folder_sha256
    logs = project.home / "logs"
    with tempfile.TemporaryDirectory(prefix="assay-lm-eval-") as scratch:
        into = Path(scratch)
        bare = AskedModel(folder, None, into / "of-base", logs / "lm-eval-base.log")
        adapted = AskedModel(
            folder, weights, into / "of-adapter", logs / "lm-eval-adapter.log"
        )
        for model in (bare, adapted):
            system = "base" if model.adapter is None else "adapter"
            say(f"Asking the {system}. What the program says is in {model.log}.")
            ask_harness(harness, model, tasks)
        asked, scores = read_scores(bare.into, adapted.into)
    return HarnessReport(
        model=version.name,
        version=version.version,
        package_sha256=version.package_sha256,
        base_digest=base.digest,
        lm_eval=harness.version,
        tasks=tasks,
        folder_sha256=own_tasks,
        asked=asked,
        scores=scores,
    )


def _keep(store: "Store", version: "ModelVersion", report: HarnessReport) -> None:
    """The report as an artifact, and its numbers as metrics of the run."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / report.file_name
        write_text(path, report.model_dump_json(indent=1) + "\n")
        store.runs.attach(version.run_id, path, FOLDER)
    store.runs.log_metrics(version.run_id, 0, report.metrics)
