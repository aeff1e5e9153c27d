"""End runs whose process was killed, so that none says "Running" for ever."""

from core.project import Project
from flows.run.workspace import ended_workspaces, remove_dead_worktrees
from registry.mlflow.store import Store


def end_dead_runs(store: Store, project: Project) -> tuple[str, ...]:
    """Remove the worktrees of dead runs and mark these as killed in MLflow.

    Gives a sentence for each run that MLflow still showed as running.
    """
    remove_dead_worktrees(project)
    sentences = []
    for workspace in ended_workspaces(project):
        run_id = store.runs.end_dead_run(workspace)
        if run_id:
            sentences.append(
                f"Run {run_id} is KILLED in MLflow: its process had ended ({workspace})."
            )
    return tuple(sentences)
