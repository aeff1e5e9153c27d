"""Starting a training run: from what was typed to a request, from a request to its outcome."""

import os
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.address import shown
from core.environment import set_library_environment
from core.errors import ParameterError, RunStopped, UnreadableData
from core.home import make_home
from core.value import first_problem
from flows.run.outcome import Outcome
from flows.run.request import TrainRequest
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.values.params import overridden, parse_assignment


def request_from(**asked: Any) -> TrainRequest:
    """What was typed, as a request; files are looked at, so that a slip is found before anything starts."""
    given = {name: setting for name, setting in asked.items() if setting is not None}
    given["settings"] = dict(
        parse_assignment(text) for text in given.pop("settings", ())
    )
    for name in ("data", "held_out", "policy"):
        if name in given and not given[name].is_file():
            raise UnreadableData(
                f"There is no file {given[name]}. --{name.replace('_', '-')} wants an existing file."
            )
    if "held_out" in given and "data" not in given:
        raise ParameterError(
            "--held-out goes with --data: the demo's rows bring their own held-out split."
        )
    if "policy" in given:
        load_policy(given["policy"])
    if "chat_template" in given:
        given["chat_template"] = _text_of(given["chat_template"])
    if "base_model" in given:
        given["base_model_digest"] = _digest_of_base(given["base_model"], given)
    given.setdefault("model", _model_name(given))
    try:
        request = TrainRequest(**given)
    except ValidationError as error:
        raise ParameterError(
            f"The request does not fit: {first_problem(error)}. `assay run --help` says what each option takes."
        ) from error
    _check_parameters(request)
    return request


def run_training(request: TrainRequest) -> Outcome:
    """Run the flow `train` under a Prefect server, the run's own where none is configured."""
    set_library_environment()
    from core.project import find_project
    from core.settings import Settings
    from flows.run.stop_signal import stops_when_told
    from flows.schedule.prefect_server import prefect_answers, prefect_server

    project = find_project(Settings().home)
    _check_python()
    make_home(project.home)
    try:
        with stops_when_told(), prefect_server(project.home), prefect_answers():
            from flows.run.report import show
            from flows.train import train
            from registry.mlflow.home_store import open_store

            outcome = train(request)
            show(outcome, open_store(project).address)
    except KeyboardInterrupt as told:  # between two stages or in the wait for another run; a stage says so itself
        raise RunStopped(
            "The run was told to stop. What is done is kept: run the same command again and it goes on."
        ) from told
    return outcome


def run_ui(port: int) -> int:
    """MLflow's server over this home's database, with accounts, until it is stopped.

    Without a login every account of the machine could read prompts there, and write files as this one.
    """
    set_library_environment()
    from core.console import say
    from core.environment import mlflow_address
    from core.project import find_project
    from core.settings import Settings
    from registry.mlflow.accounts import ADMIN, passwords_file
    from registry.mlflow.home_store import open_store
    from serving.listen import open_socket

    project = find_project(Settings().home)
    home = project.home.resolve()
    _check_own_mlflow(mlflow_address())
    make_home(home)
    # A database that is lost or was moved is said before the server makes or follows another one.
    open_store(project)
    with open_socket("127.0.0.1", port):
        pass  # a port that is taken is said in one line, before MLflow takes ten seconds to find out
    say(
        f"MLflow's pages at http://127.0.0.1:{port} ask for a login: {ADMIN!r}, with the password in {passwords_file(home)}."
    )
    command = ["registry.mlflow.server", "--home", str(home), "--port", str(port)]
    os.execv(  # noqa: S606 - this process becomes the server
        sys.executable, [sys.executable, "-m", *command]
    )


def _check_own_mlflow(address: str | None) -> None:
    if address is None:
        return
    step = (
        "open it in a browser"
        if address.startswith(("http://", "https://"))
        else "start `mlflow server` over it, or unset that variable"
    )
    raise ParameterError(
        f"MLFLOW_TRACKING_URI names another MLflow, {shown(address)}: {step}. `assay ui` shows the home's own."
    )


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableData(
            f"The chat template {path} cannot be read ({type(error).__name__}). Give a Jinja file in UTF-8."
        ) from error


def _model_name(given: dict[str, Any]) -> str:
    data = _plain(given["data"].stem) or "rows" if "data" in given else "cheat"
    base = (
        _plain(given["base_model"].absolute().name) or "model"
        if "base_model" in given
        else "smollm2"
    )
    return f"{data}-{base}"[:100]


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._")


def _check_parameters(request: TrainRequest) -> None:
    """As the run itself will, without a wait for Prefect or for another run's end."""
    from core.project import find_project
    from core.settings import Settings
    from flows.run.workspace import check_name

    params = overridden(
        find_project(Settings().home).root / layout.PARAMS, request.assignments()
    )
    check_name(request.model, params.base_model.id)


def _digest_of_base(folder: Path, given: dict[str, Any]) -> str:
    """Look at the folder now: one that lacks what a base model needs is said before anything starts."""
    from core.project import find_project
    from core.settings import Settings
    from pipelines.stages.base_model import base_model
    from pipelines.values.params import BaseModelParams

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
            f"This is Python {sys.version.split()[0]} and Assay's lock is for 3.11. Make the environment with python3.11."
        )
