"""Which rows a request would read, as one digest, and the doorbell when those are others than before."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from core.errors import DamagedFile, OperationError, ParameterError
from core.files import digest_of_json, sha256_of
from core.project import Project
from core.value import Value
from flows.run.request import TrainRequest
from pipelines import layout
from pipelines.rows.cheat import CHEAT

EVENT = "assay.data.arrived"
DEPLOYMENT = "retrain/on-data-arrival"
SECONDS_BETWEEN_LOOKS = 10.0
SECONDS_TO_SETTLE = 5.0
_STEMS = ("rows", "held_out")


class Seen(Value):
    """The data of one model as the last look found it. `files` saves hashing what nobody touched."""

    revision: str
    files: dict[str, tuple[int, int]]


class Arrivals(Value):
    """What `HOME/arrivals.json` remembers."""

    looked: float = 0.0
    seen: dict[str, Seen] = Field(default_factory=dict)


def revision_in(root: Path) -> str:
    """Digest of what `collect` reads in a workspace: the files of rows, or the demo's pin, and how they are read."""
    return _revision(_files(root / layout.RAW), _data_params(root / layout.PARAMS))


def data_revision(project: Project, request: TrainRequest) -> str:
    """The same digest before there is a workspace: the request's own files in place of the checkout's."""
    return _revision(
        _request_files(project, request), _request_params(project, request)
    )


def watch_data(project: Project) -> tuple[str, ...]:
    """Ring where rows of a model that the deployment names have changed; a sentence for each ring.

    The first look only remembers: rows that lay there before anybody looked did not arrive. A file that was written to in the last seconds
    is left for the next look: it may still be growing. A ring that Prefect did not take is tried again at the next look.
    """
    from flows.schedule.prefect_api import deployment_parameters, is_configured

    path = project.home / "arrivals.json"
    known, now = _read(path), time.time()
    if not is_configured() or 0 <= now - known.looked < SECONDS_BETWEEN_LOOKS:
        return ()
    requests = [
        _request_of(parameters) for parameters in deployment_parameters(DEPLOYMENT)
    ]
    found = {
        request.model: _look(project, request, known.seen.get(request.model), now)
        for request in requests
        if request is not None
    }
    told = tuple(
        _announce(model, seen)
        for model, seen in found.items()
        if model in known.seen and _is_new(known.seen[model], seen)
    )
    kept = {model: seen for model, seen in found.items() if seen is not None}
    Arrivals(looked=now, seen={**known.seen, **kept}).write(path)
    return told


def announce_new_data(model: str, revision: str) -> None:
    """Ring once: deployments that wait for the event start."""
    from flows.schedule.prefect_api import emit

    emit(
        EVENT,
        {"prefect.resource.id": f"assay.data.{model}", "prefect.resource.name": model},
        {"revision": revision},
    )


def _announce(model: str, seen: Seen | None) -> str:
    announce_new_data(model, seen.revision if seen else "")
    return f"New rows for {model}: training was asked for."


def _is_new(before: Seen, now: Seen | None) -> bool:
    return now is not None and now.revision != before.revision


def _look(
    project: Project, request: TrainRequest, before: Seen | None, now: float
) -> Seen | None:
    """What is there, or None where it cannot be told: a file that is missing, or written to just now."""
    try:
        files = _request_files(project, request)
        stats = {
            name: (path.stat().st_size, path.stat().st_mtime_ns)
            for name, path in files.items()
        }
        params = _request_params(project, request)
        marks = stats | {"params": (0, int(digest_of_json(params)[:12], 16))}
        if before is not None and before.files == marks:
            return before
        if any(
            0 <= now - written / 1e9 < SECONDS_TO_SETTLE
            for _, written in stats.values()
        ):
            return None
        return Seen(revision=_revision(files, params), files=marks)
    except FileNotFoundError:
        return before or Seen(
            revision="", files={}
        )  # what comes later did arrive; a file that is being replaced did not leave
    except (OSError, ParameterError):
        return None  # the run that needs it says what is wrong


def _files(raw: Path) -> dict[str, Path]:
    found = (path for stem in _STEMS for path in sorted(raw.glob(f"{stem}.*")))
    return {
        path.name: path for path in found if path.suffix != ".dvc" and path.is_file()
    }


def _request_files(project: Project, request: TrainRequest) -> dict[str, Path]:
    own = {"rows": request.data, "held_out": request.held_out}
    given = {
        f"{stem}{path.suffix.lower()}": path
        for stem, path in own.items()
        if path is not None
    }
    lying = {} if request.data else _files(project.root / layout.RAW)
    return {**lying, **given}


def _request_params(project: Project, request: TrainRequest) -> dict[str, Any]:
    chosen = {
        name.removeprefix("data."): setting
        for name, setting in request.assignments().items()
        if name.startswith("data.")
    }
    return {**_data_params(project.root / layout.PARAMS), **chosen}


def _data_params(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return dict(document["data"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ParameterError(
            f"{path} names no data ({type(error).__name__}). `git checkout {path}` brings it back."
        ) from error


def _revision(files: Mapping[str, Path], params: Mapping[str, Any]) -> str:
    rows = (
        CHEAT.sha256
        if params.get("source") == "cheat"
        else {name: sha256_of(path) for name, path in sorted(files.items())}
    )
    return digest_of_json({"rows": rows, "params": dict(params)})


def _request_of(parameters: Mapping[str, Any]) -> TrainRequest | None:
    try:
        return TrainRequest.model_validate(parameters.get("request", {}))
    except ValidationError:
        return None  # Prefect refuses to start it, and says why


def _read(path: Path) -> Arrivals:
    try:
        return Arrivals.read(path)
    except DamagedFile:
        return Arrivals()
    except OSError as error:
        raise OperationError(
            f"{path} cannot be read ({error.strerror}). Mend its permissions."
        ) from error
