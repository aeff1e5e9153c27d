"""Runs that nobody can end any more, their process being killed: no run stays "Running" for ever."""

from core.project import Project
from flows.run.workspace import gone, sweep
from registry.mlflow.store import Store


def end_dead_runs(store: Store, project: Project) -> tuple[str, ...]:
    """Take the worktrees of dead runs away, and say in MLflow that they were killed; a sentence for each run that still said it went on."""
    sweep(project)
    ended = [
        (workspace, store.runs.end_of_dead(workspace)) for workspace in gone(project)
    ]
    return tuple(
        f"Run {run_id} is KILLED in MLflow: its process was gone ({workspace})."
        for workspace, run_id in ended
        if run_id
    )
