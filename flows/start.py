"""Start a training run: from what was typed to a request, from a request to its outcome."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.environment import set_library_environment
from core.errors import ParameterError, RunStopped, UnreadableData
from core.home import make_home
from core.project import find_project
from core.settings import Settings
from core.value import first_problem
from flows.run.outcome import Outcome
from flows.run.request import TrainRequest, check_request
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.values.params import BaseModelParams, parse_assignment

_LONGEST_MODEL_NAME = 100
_FILES = ("data", "held_out", "policy")
# A dataset that was saved is a folder.
_MAY_BE_FOLDERS = ("data", "held_out")


def request_from(**options: Any) -> TrainRequest:
    """The request that command-line options amount to; None is an option that was not given.

    Files and parameters are checked, so that a slip is an error before anything starts:
    `UnreadableData` or `ParameterError`.
    """
    # A base model is looked at by libraries that read their settings when they are imported.
    set_library_environment()
    given = {name: option for name, option in options.items() if option is not None}
    # `--set lora.r=32` may come many times.
    assignments = given.pop("settings", ())
    given["settings"] = dict(parse_assignment(text) for text in assignments)
    _check_files(given)
    if "chat_template" in given:
        given["chat_template"] = read_template_file(given["chat_template"])
    if "base_model" in given:
        given["base_model_digest"] = _digest_of_base(given)
    # Named after data and base, so that two projects do not share a champion by accident.
    given.setdefault("model", _default_model_name(given))
    try:
        request = TrainRequest(**given)
    except ValidationError as error:
        raise ParameterError(
            f"The request does not fit: {first_problem(error)}. "
            "`assay run --help` says what each option takes."
        ) from error
    check_request(request, find_project(Settings().home).root / layout.PARAMS)
    return request


def run_training(request: TrainRequest) -> Outcome:
    """Run the flow `train` under a Prefect server, the run's own where none is configured.

    `RunStopped` where the run is told to stop; what it did is kept.
    """
    set_library_environment()
    from flows.run.stop_signal import ended_by_sigterm
    from flows.schedule.prefect_server import prefect_answers, prefect_server

    project = find_project(Settings().home)
    _check_python()
    make_home(project.home)
    try:
        with ended_by_sigterm(), prefect_server(project.home), prefect_answers():
            # Prefect reads its settings when it is imported: not before the server is known.
            from flows.run.report import show
            from flows.train import train
            from registry.mlflow.home_store import open_store

            outcome = train(request)
            show(outcome, open_store(project).address)
    # Ctrl-C between two stages or in a wait for another run; a stage reports it itself.
    except KeyboardInterrupt as interrupt:
        raise RunStopped(
            "The run was told to stop. What is done is kept: run the same command again and it "
            "goes on."
        ) from interrupt
    return outcome


def _check_files(given: Mapping[str, Any]) -> None:
    for name in _FILES:
        if name not in given or given[name].is_file():
            continue
        if name not in _MAY_BE_FOLDERS or not given[name].is_dir():
            option = f"--{name.replace('_', '-')}"
            raise UnreadableData(
                f"There is no file {given[name]}. {option} wants an existing file."
            )
    if "held_out" in given and "data" not in given:
        raise ParameterError(
            "--held-out goes with --data: the demo's rows bring their own held-out split."
        )
    if "policy" in given:
        load_policy(given["policy"])


def read_template_file(path: Path) -> str:
    """Read a chat template; `UnreadableData` where there is none in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableData(
            f"The chat template {path} cannot be read ({type(error).__name__}). "
            "Give a Jinja file in UTF-8."
        ) from error


def _default_model_name(given: Mapping[str, Any]) -> str:
    """Data and base, each in the characters that a model's name may have."""
    data, base = "cheat", "smollm2"
    if "data" in given:
        data = _plain_name(given["data"].stem) or "rows"
    if "base_model" in given:
        folder = given["base_model"].absolute()
        base = _plain_name(folder.name) or "model"
    return f"{data}-{base}"[:_LONGEST_MODEL_NAME]


def _plain_name(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    return plain.strip("-._")


def _digest_of_base(given: Mapping[str, Any]) -> str:
    """Read the folder now: a base model that lacks a file is an error before anything starts."""
    from pipelines.stages.base_model import base_model

    folder = given["base_model"]
    params = BaseModelParams(
        source="folder",
        id=folder.name,
        path=str(folder),
        digest=None,
        chat_template=given.get("chat_template"),
        completion_mode=given.get("completion_mode", False),
    )
    home = find_project(Settings().home).home
    make_home(home)
    manifest, _ = base_model(params, home)
    return manifest.digest


def _check_python() -> None:
    if sys.version_info[:2] != (3, 11):
        raise ParameterError(
            f"This is Python {sys.version.split()[0]} and Assay's lock is for 3.11. "
            "Make the environment with python3.11."
        )
