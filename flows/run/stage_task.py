"""A Prefect task for each DVC stage: its line when it is done, its retries where one can help."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.errors import (
    DownloadFailed,
)  # Only a download can go better the second time; everything else would fail the same way.
from flows.run.report import stage_line
from flows.run.reproduce import StageRun, reproduce
from flows.run.workspace import Workspace

_DOWNLOADS = {"base_model", "collect"}


def run_stage(workspace: Workspace, stage: str) -> StageRun:
    """Run one stage as a task and say what it took."""
    done = task(
        name=stage,
        task_run_name=stage,
        retries=2 if stage in _DOWNLOADS else 0,
        retry_delay_seconds=5,
        retry_condition_fn=_can_help,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(reproduce)(workspace, stage)
    stage_line(done)
    return done


def _can_help(_task: Any, _run: Any, state: Any) -> bool:
    return isinstance(state.result(raise_on_failure=False), DownloadFailed)
