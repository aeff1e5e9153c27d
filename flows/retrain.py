"""What schedules, new data and the run form start: one training run, reported to people."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from prefect import flow
from prefect.states import Completed

from core.errors import AlreadyTraining, AssayError
from core.notify import notify
from core.project import Project, find_project
from core.settings import Settings
from flows.run.model_files import complete
from flows.run.outcome import Outcome
from flows.run.report import mlflow_link, publish_text, run_link
from flows.run.request import TrainRequest
from flows.run.training_lock import training_turn
from flows.schedule.arrivals import data_revision
from flows.train import train_to_verdict
from registry.mlflow.home_store import open_store
from registry.mlflow.store import Store

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_DEFAULT = TrainRequest()
_MOST_REASONS = 5


@flow(name="retrain", flow_run_name="{request.title}")
def retrain(
    request: TrainRequest = _DEFAULT,
    *,
    only_new_data: bool = False,
    when_busy: Literal["wait", "skip"] = "wait",
) -> "State[Any]":
    """Train an adapter, judge it, register it if it passes, and tell the result.

    Prefect shows these words in its run form.

    Args:
        request: What to train on what, and how to judge it.
        only_new_data: Make no candidate where the rows are those of the last judged run.
        when_busy: Where another run trains the same model: wait for its end, or skip this run.
    """
    project = find_project(Settings().home)
    waits = when_busy == "wait"
    with notified_on_error(project, request.model):
        # Read when it runs: a deployment names the model alone.
        request = complete(request, project.root)
        try:
            with training_turn(project.home, request.model, waits=waits):
                return _retrain(project, request, only_new_data=only_new_data)
        except AlreadyTraining as busy:
            return _skip(
                project,
                "AlreadyTraining",
                request.model,
                str(busy),
            )


def _retrain(
    project: Project, request: TrainRequest, *, only_new_data: bool
) -> "State[Any]":
    # A schedule asks every night; people get a message only about news.
    store = open_store(project)
    if only_new_data:
        sentence = _no_new_rows(store, project, request)
        if sentence is not None:
            return _skip(
                project,
                "NoNewRows",
                request.model,
                sentence,
            )
    outcome = train_to_verdict(project, request)
    # Rows that changed back to what was judged before are found every night: that is no news.
    is_news = not (only_new_data and outcome.unchanged)
    title = f"Assay: {request.model} {outcome.word}"
    notify(
        project.home,
        title,
        _message(outcome, store),
        sends=is_news,
    )
    return Completed(name=outcome.word.capitalize(), message=outcome.result)


def _no_new_rows(store: Store, project: Project, request: TrainRequest) -> str | None:
    """Why there is nothing to train on; None where rows have changed since the last verdict."""
    judged = store.runs.find_last_training(request.model)
    if judged is None or judged.data_revision is None:
        return None
    # The rows alone decide: other parameters are a person's business, not the night's.
    if judged.data_revision != data_revision(project, request):
        return None
    return (
        f"No new rows for {request.model} since {judged.at:%Y-%m-%d %H:%M} UTC "
        f"({judged.verdict}, MLflow run {judged.run_id}): nothing to train. "
        "Turn only_new_data off to train all the same."
    )


def _skip(project: Project, name: str, model: str, sentence: str) -> "State[Any]":
    """End a run that trains nothing. Its page and the home say why; nobody gets a message."""
    publish_text("nothing-done", f"# Nothing was trained\n\n{sentence}\n", sentence)
    notify(
        project.home,
        f"Assay: {model} not trained",
        sentence,
        sends=False,
    )
    return Completed(name=name, message=sentence)


@contextmanager
def notified_on_error(project: Project, model: str) -> Iterator[None]:
    """Tell people where an error ends the run, and raise it again for Prefect to show."""
    try:
        yield
    except Exception as error:
        why = str(error)
        if not isinstance(error, AssayError):
            kind = type(error).__name__
            why = f"{kind}: {why[:300]}"
        link = run_link()
        text = f"{why}\nPrefect: {link}"
        notify(project.home, f"Assay: a run of {model} failed", text)
        # Prefect shows the run as failed.
        raise


def _message(outcome: Outcome, store: Store) -> str:
    reasons = [f"- {reason}" for reason in outcome.reasons[:_MOST_REASONS]]
    more = len(outcome.reasons) - _MOST_REASONS
    if more > 0:
        reasons.append(f"- and {more} more")
    links = [
        f"MLflow: {mlflow_link(store.address, outcome.run_id)}",
        f"Prefect: {run_link()}",
    ]
    return "\n".join([f"{outcome.result}.", *reasons, *links])
