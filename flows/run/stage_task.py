"""A Prefect task for each DVC stage: its line at the end, and retries where these can help."""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.errors import DownloadFailed
from flows.run.report import print_stage
from flows.run.reproduce import StageRun, reproduce
from flows.run.workspace import Workspace

_DOWNLOADS = {"base_model", "collect"}
"""Stages that can go better the second time; every other one would fail the same way."""


def run_stage(workspace: Workspace, stage: str) -> StageRun:
    """Run one stage as a Prefect task and print what it took; the stage's error is raised."""
    stage_task = task(
        name=stage,
        task_run_name=stage,
        retries=2 if stage in _DOWNLOADS else 0,
        retry_delay_seconds=5,
        retry_condition_fn=_is_lost_download,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(reproduce)
    run = stage_task(workspace, stage)
    print_stage(run)
    return run


def _is_lost_download(_task: Any, _run: Any, state: Any) -> bool:
    error = state.result(raise_on_failure=False)
    return isinstance(error, DownloadFailed)
