"""The deployments of a project with models of its own: those of `infra/prefect.yaml`, for each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from core.errors import OperationError
from flows.run.model_files import ModelFile, model_names, read_model_file

_EVENT_OF_ANY = "assay.data.*"


def expand(text: str, root: Path) -> str:
    """The file with one deployment for each model in place of one that asks for a model.

    Without models of the project's own it stays as it is. A deployment with a schedule of its own
    is nightly training: it is there for those models that say when. `OperationError` where the
    file is no list of deployments, `ParameterError` where a model's file is not whole.
    """
    names = model_names(root)
    # The text itself, so that comments and order are those of the person's file.
    if not names:
        return text
    try:
        document = yaml.safe_load(text)
        # What is no list of deployments shows wherever it is first taken for one.
        document["deployments"] = [
            each
            for entry in document["deployments"]
            for each in _of_each_model(entry, names, root)
        ]
    except (yaml.YAMLError, AttributeError, LookupError, TypeError) as error:
        raise OperationError(
            f"infra/prefect.yaml lists no deployments ({type(error).__name__}). Correct it."
        ) from error
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _of_each_model(
    entry: dict[str, Any], names: tuple[str, ...], root: Path
) -> Iterator[dict[str, Any]]:
    # YAML has a key without anything as None.
    parameters = entry.get("parameters") or {}
    request = parameters.get("request")
    # Of all models at once, such as what tells of crashes.
    if not isinstance(request, dict) or "model" not in request:
        yield entry
        return
    for name in names:
        configured = read_model_file(root, name)
        if configured is not None and not _is_unwanted(entry, configured):
            yield _of_model(entry, name, configured)


def _is_unwanted(entry: dict[str, Any], configured: ModelFile) -> bool:
    return _trains_by_itself(entry) and configured.schedule is None


def _trains_by_itself(entry: dict[str, Any]) -> bool:
    # What watches for data and what a person starts run the same flow, without a schedule.
    is_training = str(entry.get("entrypoint", "")).endswith("retrain")
    return is_training and bool(entry.get("schedules"))


def _of_model(
    entry: dict[str, Any], name: str, configured: ModelFile
) -> dict[str, Any]:
    parameters = entry["parameters"]
    request = parameters["request"]
    own = dict(entry)
    own["name"] = f"{entry['name']}-{name}"
    own["parameters"] = {
        **parameters,
        "request": {**request, "model": name},
    }
    if _trains_by_itself(entry):
        own["schedules"] = [
            {**each, "cron": configured.schedule, "timezone": "UTC"}
            for each in entry["schedules"]
        ]
    if "triggers" in entry:
        own["triggers"] = [_trigger_of(each, name) for each in entry["triggers"]]
    return own


def _trigger_of(trigger: dict[str, Any], name: str) -> dict[str, Any]:
    """The trigger, for new rows of this model where it waits for those of any."""
    match = trigger.get("match", {})
    own_match = {}
    for label, wanted in match.items():
        is_of_any = wanted == _EVENT_OF_ANY
        own_match[label] = f"assay.data.{name}" if is_of_any else wanted
    return {**trigger, "match": own_match}
