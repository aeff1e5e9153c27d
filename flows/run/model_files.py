"""`models/NAME.yaml`: what a model of the project is trained on, so that its name is enough."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from core.errors import ParameterError, UnreadableData
from core.value import Settable, first_problem
from flows.run.request import TrainRequest, read_template_file
from pipelines import layout

FOLDER = Path("models")
_SUFFIX = ".yaml"
_OF_ROWS = ("data", "held_out", "licence")
_LINES = {
    "data.source": "data",
    "data.licence": "licence",
    "base_model.source": "base_model",
    "base_model.path": "base_model",
    "base_model.chat_template": "chat_template",
    "base_model.completion_mode": "completion_mode",
}
"""Parameters that a line of the file stands for."""
_FILES_OF_A_REQUEST = ("data", "held_out", "base_model")


class ModelFile(Settable):
    """One model of a project.

    Paths are relative to the project's folder. What is null stays as params.yaml and the policies
    have it.
    """

    data: Path | None = Field(description="Rows; null: those of data/raw.")
    held_out: Path | None = Field(default=None, description="A fixed held-out set.")
    licence: str | None = Field(default=None, description="SPDX identifier.")
    base_model: Path | None = Field(default=None, description="Folder of a base model.")
    chat_template: Path | None = Field(default=None, description="A Jinja file.")
    completion_mode: bool = Field(default=False, description="No chat template.")
    policy: Path | None = Field(
        default=None,
        description="Gate policy; null: registry/policies/NAME.yaml where there is one.",
    )
    schedule: str | None = Field(
        default=None,
        description="When to train by itself, as cron in UTC.",
        # Five fields; Prefect refuses what is no time in them.
        pattern=r"^\s*\S+(\s+\S+){4}\s*$",
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Parameters by dotted name."
    )


def model_names(root: Path) -> tuple[str, ...]:
    """The models that the project configures, in the order of their names."""
    return tuple(
        sorted(
            path.stem
            for path in (root / FOLDER).glob(f"*{_SUFFIX}")
            # Editors and other systems leave hidden files beside those that they copy.
            if not path.name.startswith(".") and not path.is_dir()
        )
    )


def read_model_file(root: Path, name: str) -> ModelFile | None:
    """The file of a model; None where it has none.

    `ParameterError` where it is not whole.
    """
    if name not in model_names(root):
        return None
    path = _path_of(root, name)
    # A pipe would be waited for.
    if not path.is_file():
        raise ParameterError(f"{path} is no file. Write the model's lines into one.")
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        _check_names(path, document)
        return ModelFile.model_validate(document)
    except ValidationError as error:
        problem = first_problem(error)
        raise ParameterError(f"{path}: {problem}. Correct that line.") from error
    # yaml raises a ValueError for the date 2024-13-45.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ParameterError(
            f"{path} cannot be read as YAML ({type(error).__name__}). Correct it."
        ) from error


def _check_names(path: Path, document: Any) -> None:
    """`ParameterError` for a line that means nothing, or that contradicts another."""
    if not isinstance(document, dict):
        return
    known = ModelFile.model_fields
    for name in document:
        if name in known:
            continue
        # YAML may give a number where a name is meant.
        near = difflib.get_close_matches(str(name), known, n=1)
        meant = near[0] if near else ", ".join(known)
        raise ParameterError(
            f"{path}: {name!r} means nothing there. Did you mean {meant}?"
        )
    settings = document.get("settings")
    if not isinstance(settings, dict):
        return
    for name, line in _LINES.items():
        if name in settings:
            raise ParameterError(
                f"{path}: settings has {name}, which the line {line} says. "
                "Write it there alone."
            )


def complete(request: TrainRequest, root: Path) -> TrainRequest:
    """Fill in from the model's file what the request leaves open.

    `ParameterError` or `UnreadableData` where the file is not whole or names what is not there.
    """
    configured = read_model_file(root, request.model)
    if configured is not None:
        _check_paths(configured, root, request.model)
        request = _filled_in(request, configured, root)
    # A policy of its name counts without a file of the model too: a release is judged by it.
    return _with_own_policy(request, root)


def _filled_in(
    request: TrainRequest, configured: ModelFile, root: Path
) -> TrainRequest:
    found = _request_of(configured, root)
    # What the file says of its rows holds for no other rows.
    if request.data is not None:
        found = {name: each for name, each in found.items() if name not in _OF_ROWS}
    given = {
        name: value
        for name, value in request.model_dump().items()
        if value
        != TrainRequest.model_fields[name].get_default(call_default_factory=True)
    }
    given["settings"] = {**found["settings"], **request.settings}
    return TrainRequest(**{**found, **given, "model": request.model})


def _with_own_policy(request: TrainRequest, root: Path) -> TrainRequest:
    policy = policy_of(root, request.model)
    if request.policy is not None or policy == root / layout.POLICY:
        return request
    return request.model_copy(update={"policy": policy})


def policy_of(root: Path, name: str) -> Path:
    """The policy that holds for a model now: of its file, of its name, or else the default.

    A run and a release are judged by the same. `ParameterError` or `UnreadableData` where the
    model's file is not whole or names a policy that is not there.
    """
    configured = read_model_file(root, name)
    if configured is not None and configured.policy is not None:
        _check_is_there(configured, "policy", root, name)
        return root / configured.policy
    own = root / layout.POLICIES / f"{name}{_SUFFIX}"
    return own if own.is_file() else root / layout.POLICY


def only_model(root: Path) -> str | None:
    """The model to train where none is named: the only one that is configured; None without any.

    `ParameterError` where there are several.
    """
    names = model_names(root)
    if len(names) > 1:
        raise ParameterError(
            f"This project has {len(names)} models: {', '.join(names)}. "
            f"Name one: `assay run {names[0]}`, or `--model {names[0]}`."
        )
    return names[0] if names else None


def _path_of(root: Path, name: str) -> Path:
    return root / FOLDER / f"{name}{_SUFFIX}"


def _check_paths(configured: ModelFile, root: Path, name: str) -> None:
    """Name what is half configured, in the words of the file."""
    for field in (*_FILES_OF_A_REQUEST, "policy", "chat_template"):
        _check_is_there(configured, field, root, name)


def _check_is_there(configured: ModelFile, field: str, root: Path, name: str) -> None:
    path: Path | None = getattr(configured, field)
    if path is not None and not (root / path).exists():
        raise UnreadableData(
            f"{_path_of(root, name)}: {field} names {path}, which is not there. "
            "Bring it, or correct the line; paths are relative to the project."
        )


def _request_of(configured: ModelFile, root: Path) -> dict[str, Any]:
    """What the file says, apart from its policy."""
    request: dict[str, Any] = {"settings": configured.settings}
    for field in _FILES_OF_A_REQUEST:
        path: Path | None = getattr(configured, field)
        if path is not None:
            request[field] = root / path
    if configured.licence is not None:
        request["licence"] = configured.licence
    if configured.chat_template is not None:
        request["chat_template"] = read_template_file(root / configured.chat_template)
    return {**request, "completion_mode": configured.completion_mode}
