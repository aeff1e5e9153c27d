"""Start a training run: from what was typed to a request, from a request to its outcome."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.environment import set_library_environment
from core.errors import ParameterError, RunStopped, UnreadableData
from core.home import make_home
from core.project import find_project
from core.settings import Settings
from core.supported import describe_unsupported_python
from core.value import first_problem
from flows.run.model_files import complete, model_names, only_model
from flows.run.outcome import Outcome
from flows.run.request import TrainRequest, check_request, read_template_file
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.models.foreign_config import read_foreign_adapter
from pipelines.models.prompt_files import read_prompt_file
from pipelines.values.fixed_prompt import FEW_SHOT
from pipelines.values.params import BaseModelParams, Params, parse_assignment

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
    root = find_project(Settings().home).root
    if "name" in given:
        given["model"] = _configured(given.pop("name"), given.get("model"), root)
    # `--set lora.r=32` may come many times.
    assignments = given.pop("settings", ())
    given["settings"] = dict(parse_assignment(text) for text in assignments)
    _check_files(given)
    if "chat_template" in given:
        given["chat_template"] = read_template_file(given["chat_template"])
    if "model" not in given:
        given["model"] = _model_of(given, root)
    try:
        request = complete(TrainRequest(**given), root)
    except ValidationError as error:
        raise ParameterError(
            f"The request does not fit: {first_problem(error)}. "
            "`assay run --help` says what each option takes."
        ) from error
    if request.base_model is not None:
        digest = _digest_of_base(request)
        request = request.model_copy(update={"base_model_digest": digest})
    params = check_request(request, root / layout.PARAMS)
    _check_is_judged(params, request.policy or root / layout.POLICY)
    return request


def run_training(
    request: TrainRequest, adapter: Path | None = None, prompt: str | None = None
) -> Outcome:
    """Run the flow `train` under a Prefect server, the run's own where none is configured.

    With an `adapter` that was trained elsewhere, or a `prompt`: the flow that judges it, which
    trains nothing.
    `RunStopped` where the run is told to stop; what it did is kept. `OperationError` where a server
    that is configured cannot be used, before anything else happens.
    """
    set_library_environment()
    from flows.run.stop_signal import ended_by_sigterm
    from flows.schedule.prefect_server import prefect_answers, prefect_server
    from flows.servers import check_servers

    # Before a server is started for it.
    if adapter is not None:
        read_foreign_adapter(adapter)
    if prompt is not None and prompt != FEW_SHOT:
        read_prompt_file(Path(prompt))
    project = find_project(Settings().home)
    _check_python()
    make_home(project.home)
    check_servers()
    try:
        with ended_by_sigterm(), prefect_server(project.home), prefect_answers():
            # Prefect reads its settings when it is imported: not before the server is known.
            from flows.judge_brought import judge_adapter, judge_prompt
            from flows.run.report import show
            from flows.train import train
            from registry.mlflow.home_store import open_store

            if adapter is not None:
                outcome = judge_adapter(request, adapter)
            elif prompt is not None:
                outcome = judge_prompt(request, prompt)
            else:
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


def _check_is_judged(params: Params, policy: Path) -> None:
    """`ParameterError` where `screen` would reject whatever the adapter says.

    It does where a metric that the policy requires is not scored, and where one that is scored has
    no margin: that is known before hours of training.
    """
    screen = load_policy(policy).gates.screen
    required, judged = {screen.primary}, {screen.primary}
    for guardrail in screen.guardrails:
        judged.add(guardrail.metric)
        if guardrail.required:
            required.add(guardrail.metric)
    scored = set(params.score.metrics)
    missing = ", ".join(sorted(required - scored))
    if missing:
        raise ParameterError(
            f"The policy {policy} requires {missing}, which score.metrics does not name. "
            "Name them there, or set `required: false` in the policy."
        )
    unjudged = ", ".join(sorted(scored - judged))
    if unjudged:
        raise ParameterError(
            f"score.metrics names {unjudged}, for which the policy {policy} gives no margin. "
            "Add a guardrail for each, or leave them out."
        )


def _configured(name: str, model: str | None, root: Path) -> str:
    """The model of that name in the project; `ParameterError` where there is none."""
    if model not in (None, name):
        raise ParameterError(
            f"{name} and --model {model} are two models. Name one of them."
        )
    known = model_names(root)
    if name not in known:
        there = ", ".join(known) or "none"
        raise ParameterError(
            f"There is no models/{name}.yaml in {root}; configured: {there}. "
            "Write one, or give --model, --data and --base-model."
        )
    return name


def _model_of(given: Mapping[str, Any], root: Path) -> str:
    """The only model that the project configures, unless rows or a base are brought."""
    configured = None
    if "data" not in given and "base_model" not in given:
        configured = only_model(root)
    # Named after data and base, so that two projects do not share a champion by accident.
    return configured or default_model_name(given)


def default_model_name(given: Mapping[str, Any]) -> str:
    """Data and base, each in the characters that a model's name may have.

    `given` holds the paths of those that were brought.
    """
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


def _digest_of_base(request: TrainRequest) -> str:
    """Read the folder now: a base model that lacks a file is an error before anything starts."""
    from pipelines.stages.base_model import base_model

    folder = request.base_model or Path()
    params = BaseModelParams(
        source="folder",
        id=folder.name,
        path=str(folder),
        digest=None,
        chat_template=request.chat_template,
        completion_mode=request.completion_mode,
    )
    home = find_project(Settings().home).home
    make_home(home)
    manifest, _ = base_model(params, home)
    return manifest.digest


def _check_python() -> None:
    problem = describe_unsupported_python()
    if problem is not None:
        raise ParameterError(problem)
