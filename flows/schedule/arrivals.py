"""Notice new rows: the digest of the rows that a request would read, and the event on a change."""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from core.errors import DamagedFile, OperationError, ParameterError, UnreadableData
from core.files import digest_of_json, sha256_of
from core.project import Project
from core.value import Value
from flows.run.model_files import complete
from flows.run.request import TrainRequest
from pipelines import layout
from pipelines.rows.cheat import CHEAT
from pipelines.rows.places import STEMS, find_candidates, list_files, stored_name
from pipelines.values.params import DataParams

EVENT = "assay.data.arrived"
DEPLOYMENT = "retrain/on-data-arrival"
SECONDS_BETWEEN_LOOKS = 10.0
SECONDS_TO_SETTLE = 5.0


class SeenData(Value):
    """The data of one model at the last look. `files` saves hashing what nobody touched."""

    revision: str
    files: dict[str, tuple[int, int]]


class Arrivals(Value):
    """What `HOME/arrivals.json` remembers."""

    looked: float = 0.0
    seen: dict[str, SeenData] = Field(default_factory=dict)


def revision_in(root: Path) -> str:
    """Digest of what `collect` reads in a workspace: the rows, or the demo's pin, and how."""
    files = _row_files(root / layout.RAW)
    params = _data_params(root / layout.PARAMS)
    return _revision(files, params)


def data_revision(project: Project, request: TrainRequest) -> str:
    """The same digest before there is a workspace: with the request's files for the project's."""
    files = _request_files(project, request)
    params = _request_params(project, request)
    return _revision(files, params)


def watch_data(project: Project) -> tuple[str, ...]:
    """Send an event for each model of the deployment whose rows have changed; a sentence for each.

    The first look only remembers: rows that were there before anybody looked did not arrive. A
    file that was written to in the last seconds is left for the next look, since it may still be
    growing. An event that Prefect did not take is sent again at the next look.
    """
    from flows.schedule.prefect_api import deployment_parameters, is_configured

    path = project.home / "arrivals.json"
    # Time of the clock, not monotonic: the file outlives the process.
    memory, now = _read_memory(path), time.time()
    if not is_configured() or 0 <= now - memory.looked < SECONDS_BETWEEN_LOOKS:
        return ()
    seen: dict[str, SeenData] = {}
    sentences = []
    asked = _requests(project, deployment_parameters(DEPLOYMENT))
    for model, request in asked.items():
        before = memory.seen.get(model)
        data = _look(
            project,
            request,
            before,
            now,
        )
        if data is None:
            continue
        if before is not None and data.revision != before.revision:
            announce_new_data(model, data.revision)
            sentences.append(f"New rows for {model}: training was asked for.")
        seen[model] = data
    # Written last: an event that failed must be sent again at the next look.
    Arrivals(looked=now, seen={**memory.seen, **seen}).write(path)
    return tuple(sentences)


def announce_new_data(model: str, revision: str) -> None:
    """Send the event once: deployments that wait for it start."""
    from flows.schedule.prefect_api import emit

    resource = {
        "prefect.resource.id": f"assay.data.{model}",
        "prefect.resource.name": model,
    }
    emit(EVENT, resource, {"revision": revision})


def _look(
    project: Project, request: TrainRequest, before: SeenData | None, now: float
) -> SeenData | None:
    """The data as it is; None where that is not known: a file was written to just now."""
    try:
        files = _request_files(project, request)
        params = _request_params(project, request)
        marks = _marks(files, params)
        # Hashing gigabytes every ten seconds would be felt.
        if before is not None and before.files == marks:
            return before
        if _is_being_written(files, now):
            return None
        return SeenData(revision=_revision(files, params), files=marks)
    except FileNotFoundError:
        # A file that is being replaced has not left; one that comes later did arrive.
        return before or SeenData(revision="", files={})
    except (OSError, ParameterError):
        # The run that needs the file reports what is wrong with it.
        return None


def _marks(
    files: Mapping[str, Path], params: Mapping[str, Any]
) -> dict[str, tuple[int, int]]:
    """Size and time of each file, and the parameters as a number: cheap to compare."""
    marks = {}
    for name, path in files.items():
        stat = path.stat()
        marks[name] = (stat.st_size, stat.st_mtime_ns)
    digest = digest_of_json(params)
    marks["params"] = (0, int(digest[:12], 16))
    return marks


def _is_being_written(files: Mapping[str, Path], now: float) -> bool:
    for path in files.values():
        age = now - path.stat().st_mtime
        # A time that is yet to come is a wrong clock, and no reason to wait for it.
        if 0 <= age < SECONDS_TO_SETTLE:
            return True
    return False


def _row_files(raw: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for stem in STEMS:
        files.update(_stored_files(raw, stem))
    return files


def _stored_files(raw: Path, stem: str) -> dict[str, Path]:
    """The files of a folder under the names that a workspace gives them."""
    files: dict[str, Path] = {}
    for path in find_candidates(raw, stem):
        files.update(list_files(path, stored_name(stem, path)))
    return files


def _request_files(project: Project, request: TrainRequest) -> dict[str, Path]:
    files: dict[str, Path] = {}
    raw = project.root / layout.RAW
    own = {"rows": request.data, "held_out": request.held_out}
    for stem, source in own.items():
        if source is not None:
            files.update(list_files(source, stored_name(stem, source)))
        elif request.data is None:
            files.update(_stored_files(raw, stem))
    return files


def _request_params(project: Project, request: TrainRequest) -> dict[str, Any]:
    params = _data_params(project.root / layout.PARAMS)
    for name, setting in request.assignments().items():
        if name.startswith("data."):
            parameter = name.removeprefix("data.")
            params[parameter] = setting
    return params


def _data_params(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return dict(document["data"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ParameterError(
            f"{path} names no data ({type(error).__name__}). `git checkout {path}` brings it back."
        ) from error


def _revision(files: Mapping[str, Path], params: Mapping[str, Any]) -> str:
    rows: Any = CHEAT.sha256
    # The demo's rows are a download that is pinned by digest.
    if params.get("source") != "cheat":
        rows = {}
        for name in sorted(files):
            rows[name] = sha256_of(files[name])
    return digest_of_json({"rows": rows, "params": _without_defaults(params)})


def _without_defaults(params: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what older parameters lack, while it says nothing: an upgrade is no new data."""
    # A required field has always been there, and has always been digested.
    defaults = {
        name: field.default
        for name, field in DataParams.model_fields.items()
        if not field.is_required()
    }
    return {
        name: setting
        for name, setting in params.items()
        if name not in defaults or setting != defaults[name]
    }


def _requests(
    project: Project, parameters: Iterable[Mapping[str, Any]]
) -> dict[str, TrainRequest]:
    """The request of each model; one that does not parse is Prefect's to refuse, with a reason.

    One whose file is half configured is named by the run that somebody starts.
    """
    requests = {}
    for each in parameters:
        with suppress(ValidationError, ParameterError, UnreadableData):
            request = TrainRequest.model_validate(each.get("request", {}))
            requests[request.model] = complete(request, project.root)
    return requests


def _read_memory(path: Path) -> Arrivals:
    try:
        return Arrivals.read(path)
    except DamagedFile:
        return Arrivals()
    except OSError as error:
        raise OperationError(
            f"{path} cannot be read ({error.strerror}). Fix its permissions."
        ) from error
