"""The MLflow run of an attempt while it goes on: its curves, its parameters, and how it ends."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from core.errors import RegistryError, RunStopped
from flows.run.attempt import Attempt
from flows.run.workspace import Workspace
from pipelines import layout
from registry.mlflow.recorded import RecordedRun
from registry.mlflow.store import Store

SECONDS_BETWEEN_POINTS = 5.0


def flat_params(workspace: Workspace) -> dict[str, str]:
    """The parameters by dotted name, as MLflow compares runs.

    A parameter that holds names of its own, such as `bias.names`, stays whole as JSON.
    """
    text = (workspace.root / layout.PARAMS).read_text(encoding="utf-8")
    flat = {}
    for section, entries in yaml.safe_load(text).items():
        for name, entry in entries.items():
            is_text = isinstance(entry, str)
            shown = entry if is_text else json.dumps(entry, ensure_ascii=False)
            flat[f"{section}.{name}"] = shown
    # Where the files lie changes no result: the digest beside it does.
    del flat["base_model.path"]
    return flat


@contextmanager
def ended_on_error(store: Store, run: RecordedRun) -> Iterator[None]:
    """End the MLflow run where an error ends the flow: `KILLED` if it was stopped, else `FAILED`.

    The error is raised again. The same command resumes the run later.
    """
    try:
        yield
    except BaseException as error:
        # Prefect stops a flow by an exception of its own, which is no `Exception`.
        was_stopped = isinstance(error, RunStopped) or not isinstance(error, Exception)
        # The error that ended the run is what the person must see, not that MLflow is away.
        with suppress(RegistryError):
            store.runs.end(run.run_id, "KILLED" if was_stopped else "FAILED")
        raise


@contextmanager
def forwarded_progress(attempt: Attempt) -> Iterator[None]:
    """Within, copy what training appends to `progress.jsonl` to the curves of the MLflow run."""
    is_over = threading.Event()
    # A thread, since training is a child process that DVC waits for.
    thread = threading.Thread(target=_forward_progress, args=(attempt, is_over))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _forward_progress(attempt: Attempt, is_over: threading.Event) -> None:
    path = attempt.root / layout.PROGRESS
    sent = 0
    while True:
        # Read once more after the end: the last points may have come since.
        is_last = is_over.wait(SECONDS_BETWEEN_POINTS)
        for point in _points(path)[sent:]:
            step = int(point["step"])
            try:
                attempt.store.runs.log_metrics(attempt.run.run_id, step, curves(point))
            except RegistryError:
                return  # curves are a convenience: the whole file is among the evidence
            sent += 1
        if is_last:
            return


def _points(path: Path) -> list[dict[str, Any]]:
    """The whole lines of the file; one that is half written comes with the next reading."""
    if not path.is_file():
        return []
    points = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            points.append(json.loads(line))
        except json.JSONDecodeError:
            # Half written; the next reading finds it whole.
            break
    return points


def curves(point: Mapping[str, object]) -> dict[str, float]:
    """The figures of a line of `progress.jsonl`; a line about checkpoints holds texts as well."""
    figures = {}
    for name, value in point.items():
        if name not in ("step", "of") and isinstance(value, int | float):
            figures[f"train.{name}"] = value
    return figures
