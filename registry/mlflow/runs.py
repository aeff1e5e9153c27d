"""MLflow's runs as Assay's record: one for each logical run, with its verdict written last."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from registry.mlflow.connection import Connection, each_of_pages
from registry.mlflow.places import check_place
from registry.mlflow.recorded import (
    ERASED,
    KIND,
    LOGICAL_RUN,
    MODEL,
    VERDICT,
    WORKSPACE,
    JudgedRun,
    Page,
    RecordedRun,
    ScoredRun,
    parse_judged_run,
    parse_scored_run,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

_LONGEST_PARAM = 500
_RECENT_RUNS = 100


class Runs:
    """The runs of one MLflow. Every call may raise `RegistryError`, as `Connection.attempt`."""

    def __init__(self, connection: Connection) -> None:
        self._mlflow = connection

    def begin(self, logical_run: str, name: str, tags: dict[str, str]) -> RecordedRun:
        """Find the run of that logical run, or open one.

        A run that was interrupted continues under the same id, in the workspace of `tags`.
        """
        with self._mlflow.turn(logical_run):
            # Under the lock: two processes with the same work must share one run.
            run = self.find(logical_run)
            if run is None:
                return self._create(logical_run, name, tags)
            if run.verdict is None:
                if WORKSPACE in tags:
                    self._set_tag(run.run_id, WORKSPACE, tags[WORKSPACE])
                self._mlflow.ask(
                    lambda mlflow: mlflow.update_run(run.run_id, status="RUNNING")
                )
        return run

    def end_dead_run(self, workspace: str) -> str | None:
        """End the run as `KILLED` that is marked as running in a workspace without a process.

        Gives its id, or None where there is no such run.
        """
        query = f"tags.`{WORKSPACE}` = '{workspace}' AND attributes.status = 'RUNNING'"
        for run in self._search(query):
            with self._mlflow.turn(run.data.tags[LOGICAL_RUN]):
                # Read again under the lock: somebody may have continued it elsewhere.
                current = self._get(run.info.run_id)
                run_id = current.info.run_id
                place = current.data.tags[WORKSPACE]
                is_running = current.info.status == "RUNNING"
                if is_running and place == workspace:
                    self.end(run_id, "KILLED")
                    return str(run_id)
        return None

    def find(self, logical_run: str) -> RecordedRun | None:
        """The run of that logical run, or None."""
        query = f"tags.`{LOGICAL_RUN}` = '{logical_run}'"
        runs = self._search(query, max_results=1)
        if not runs:
            return None
        tags = runs[0].data.tags
        # Without its evidence a verdict answers nobody: the run is made again.
        verdict = None if ERASED in tags else tags.get(VERDICT)
        return RecordedRun(run_id=runs[0].info.run_id, verdict=verdict)

    def find_last_training(self, model: str) -> JudgedRun | None:
        """The latest run that trained a candidate of that model and was judged, or None."""
        query = (
            f"tags.`{MODEL}` = '{model}' AND tags.`{VERDICT}` != '' "
            "AND attributes.status = 'FINISHED'"
        )
        runs = self._search(
            query,
            max_results=_RECENT_RUNS,
            order_by=["attributes.end_time DESC"],
        )
        for run in runs:
            # Scoring a champion again is no training. Runs from before the tag trained.
            if run.data.tags.get(KIND, "train") == "train":
                return parse_judged_run(run)
        return None

    def scored(self, model: str) -> tuple[ScoredRun, ...]:
        """Every run of that model that came to a verdict by its scores, the oldest first."""
        query = (
            f"tags.`{MODEL}` = '{model}' AND tags.`{VERDICT}` != '' "
            "AND attributes.status = 'FINISHED'"
        )
        experiment = self._mlflow.attempt(self._mlflow.experiment)
        pages = each_of_pages(
            lambda token: self._mlflow.ask(
                lambda mlflow: mlflow.search_runs(
                    [experiment],
                    query,
                    order_by=["attributes.end_time ASC"],
                    page_token=token,
                )
            )
        )
        return tuple(parse_scored_run(run) for run in pages)

    def log_metrics(self, run_id: str, step: int, metrics: dict[str, float]) -> None:
        """Add points to the run's curves."""
        from mlflow.entities import Metric

        timestamp_ms = int(time.time() * 1000)
        points = [
            Metric(name, value, timestamp_ms, step) for name, value in metrics.items()
        ]
        self._mlflow.ask(lambda mlflow: mlflow.log_batch(run_id, metrics=points))

    def metrics(self, run_id: str) -> dict[str, float]:
        """The last point of each of the run's metrics."""
        run = self._get(run_id)
        return dict(run.data.metrics)

    def log_params(self, run_id: str, params: dict[str, str]) -> None:
        """Record the run's parameters; recording the same again changes nothing."""
        from mlflow.entities import Param

        # MLflow refuses longer texts; the whole ones are in the run's evidence.
        shortened = [
            Param(name, text[:_LONGEST_PARAM]) for name, text in params.items()
        ]
        self._mlflow.ask(lambda mlflow: mlflow.log_batch(run_id, params=shortened))

    def record_verdict(self, run_id: str, evidence: Path, page: Page) -> None:
        """Upload the evidence, end the run, and write the verdict."""
        self._mlflow.ask(lambda mlflow: mlflow.log_artifacts(run_id, str(evidence)))
        self._set_tag(run_id, "mlflow.note.content", page.description)
        for name, text in page.tags.items():
            if name != VERDICT:
                self._set_tag(run_id, name, text)
        self.end(run_id, "FINISHED")
        # The verdict comes last: a run that has one is complete.
        self._set_tag(run_id, VERDICT, page.tags[VERDICT])
        if ERASED in self.tags(run_id):
            self._mlflow.ask(lambda mlflow: mlflow.delete_tag(run_id, ERASED))

    def attach(self, run_id: str, file: Path, folder: str) -> None:
        """Put a file into a folder of the run's artifacts, in place of one of its name."""
        local = str(file)
        self._mlflow.ask(lambda mlflow: mlflow.log_artifact(run_id, local, folder))

    def end(self, run_id: str, status: str) -> None:
        """End a run; one that came to no verdict is `FAILED` or `KILLED`."""
        self._mlflow.ask(lambda mlflow: mlflow.set_terminated(run_id, status))

    def tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run."""
        run = self._get(run_id)
        return dict(run.data.tags)

    def fetch_evidence(self, run_id: str, into: Path) -> Path:
        """Download what a run recorded; `into` appears whole or not at all."""
        run = self._get(run_id)
        check_place(run.info.artifact_uri, self._mlflow.uri)
        into.parent.mkdir(parents=True, exist_ok=True)
        with (
            self._mlflow.turn(f"fetch-{into.name}"),
            # Beside its destination: a rename across file systems would not be atomic.
            tempfile.TemporaryDirectory(dir=into.parent) as scratch,
        ):
            download = Path(scratch) / "whole"
            download.mkdir()
            self._mlflow.ask(
                lambda mlflow: mlflow.download_artifacts(run_id, "", str(download))
            )
            shutil.rmtree(into, ignore_errors=True)
            download.rename(into)
        return into

    def _create(self, logical_run: str, name: str, tags: dict[str, str]) -> RecordedRun:
        experiment = self._mlflow.attempt(self._mlflow.experiment)
        all_tags = {**tags, LOGICAL_RUN: logical_run}
        run: Run = self._mlflow.ask(
            lambda mlflow: mlflow.create_run(experiment, tags=all_tags, run_name=name)
        )
        return RecordedRun(run_id=run.info.run_id, verdict=None)

    def _get(self, run_id: str) -> "Run":
        return self._mlflow.ask(lambda mlflow: mlflow.get_run(run_id))

    def _set_tag(self, run_id: str, name: str, text: str) -> None:
        self._mlflow.ask(lambda mlflow: mlflow.set_tag(run_id, name, text))

    def _search(
        self, query: str, max_results: int = 1000, order_by: list[str] | None = None
    ) -> "list[Run]":
        """Runs of Assay's experiment that match the query."""
        runs = self._mlflow.ask(
            lambda mlflow: mlflow.search_runs(
                [self._mlflow.experiment()],
                query,
                max_results=max_results,
                order_by=order_by,
            )
        )
        return list(runs)
