"""What schedules, new data and the run form start: one training run, its result told to people."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from prefect import flow
from prefect.states import Completed

from core.errors import AlreadyTraining, AssayError
from core.notify import notify
from core.project import Project, find_project
from core.settings import Settings
from flows.run.outcome import Outcome
from flows.run.report import mlflow_link, publish_text, run_link
from flows.run.request import TrainRequest
from flows.run.training_lock import training_turn
from flows.schedule.arrivals import data_revision
from flows.train import to_verdict
from registry.mlflow.home_store import open_store
from registry.mlflow.store import Store

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

_DEFAULT = TrainRequest()
_REASONS_TOLD = 5


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
        only_new_data: Make no candidate where the rows are those of the last judged run of the model.
        when_busy: Where another run trains the same model: wait for its end, or skip this run.
    """
    project = find_project(Settings().home)
    with told_on_error(project, request.model):
        try:
            with training_turn(project.home, request.model, waits=when_busy == "wait"):
                return _retrained(project, request, only_new_data=only_new_data)
        except AlreadyTraining as busy:
            return _nothing_done(project, "AlreadyTraining", request.model, str(busy))


def _retrained(
    project: Project, request: TrainRequest, *, only_new_data: bool
) -> "State[Any]":
    store = open_store(project)
    known = _no_new_rows(store, project, request) if only_new_data else None
    if known is not None:
        return _nothing_done(project, "NoNewRows", request.model, known)
    outcome = to_verdict(project, request)
    # Rows that went back to what was judged before are not the last ones judged: nobody is to hear of it every night.
    sends = not (only_new_data and outcome.unchanged)
    notify(
        project.home,
        f"Assay: {request.model} {outcome.word}",
        _told(outcome, store),
        sends=sends,
    )
    return Completed(name=outcome.word.capitalize(), message=outcome.result)


def _no_new_rows(store: Store, project: Project, request: TrainRequest) -> str | None:
    """Why there is nothing to train on; None where rows have changed since the last verdict, or nothing was judged yet."""
    last = store.runs.last_training(request.model)
    if (
        last is None
        or last.data_revision is None
        or last.data_revision != data_revision(project, request)
    ):
        return None
    return (
        f"No new rows for {request.model} since {last.at:%Y-%m-%d %H:%M} UTC ({last.verdict}, MLflow run {last.run_id}): nothing to train. "
        "Turn only_new_data off to train all the same."
    )


def _nothing_done(
    project: Project, name: str, model: str, sentence: str
) -> "State[Any]":
    """Said in the run's state, on its page and in the home; nobody is sent a message every night for it."""
    publish_text("nothing-done", f"# Nothing was trained\n\n{sentence}\n", sentence)
    notify(project.home, f"Assay: {model} not trained", sentence, sends=False)
    return Completed(name=name, message=sentence)


@contextmanager
def told_on_error(project: Project, model: str) -> Iterator[None]:
    """A run that an error ended is told too; the error goes on to Prefect, which shows the run as failed."""
    try:
        yield
    except Exception as error:
        why = (
            str(error)
            if isinstance(error, AssayError)
            else f"{type(error).__name__}: {str(error)[:300]}"
        )
        notify(
            project.home,
            f"Assay: a run of {model} failed",
            f"{why}\nPrefect: {run_link()}",
        )
        raise


def _told(outcome: Outcome, store: Store) -> str:
    reasons = [f"- {reason}" for reason in outcome.reasons[:_REASONS_TOLD]]
    more = len(outcome.reasons) - _REASONS_TOLD
    rest = [f"- and {more} more"] if more > 0 else []
    links = [
        f"MLflow: {mlflow_link(store.address, outcome.run_id)}",
        f"Prefect: {run_link()}",
    ]
    return "\n".join([f"{outcome.result}.", *reasons, *rest, *links])
