"""What MLflow shows of a scored run besides its verdict: the page, and metrics to compare."""

from pathlib import Path

from core.console import say
from core.errors import AssayError, first_line
from core.files import write_text
from flows.run.attempt import Attempt
from pipelines import layout
from pipelines.values.dataset import DatasetVersion
from pipelines.values.evidence import Scorecard
from pipelines.values.reserve import Confirmation
from pipelines.values.verdict import Finalist, Rejection, Undecided
from registry.mlflow.score_metrics import (
    confirmation_metrics,
    group_metrics,
    score_metrics,
)
from registry.report.scorecard import PAGE, render_scorecard

_UNREADABLE = (AssayError, OSError, ValueError, LookupError, ArithmeticError)


def write_page(attempt: Attempt, evidence: Path) -> None:
    """Write the scorecard's page among the evidence.

    A run does not fail by it: what could not be written is said.
    """
    # By the work and not by the attempt: the same evidence gives the same page.
    subject = f"Run {attempt.logical_run[:12]} of {attempt.model}"
    try:
        write_text(evidence / PAGE, render_scorecard(evidence, subject))
    # The verdict stands by now: nothing that is wrong with a picture may take it away.
    except _UNREADABLE as error:
        fact = first_line(error).rstrip(".")
        say(f"The page of the scorecard was not written: {fact}.")


def log_scores(
    attempt: Attempt, verdict: Finalist | Rejection | Undecided, scorecard: Scorecard
) -> None:
    """Log scores, differences and counts as metrics of the run."""
    # Step 0 of each: a run has one evaluation, and pages compare last points.
    metrics = score_metrics(scorecard, verdict.comparisons)
    metrics.update(confirmation_metrics(_confirmation(attempt)))
    metrics.update(group_metrics(DatasetVersion.read(attempt.root / layout.DATASET)))
    attempt.store.runs.log_metrics(attempt.run.run_id, 0, metrics)


def _confirmation(attempt: Attempt) -> Confirmation | None:
    path = attempt.root / layout.CONFIRMATION
    return Confirmation.read(path) if path.is_file() else None
