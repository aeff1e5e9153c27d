"""MLflow's runs as Assay's record: one for each logical run, with its verdict said last."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from registry.mlflow.connection import Connection
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
    judged_run,
)

if TYPE_CHECKING:
    from mlflow.entities import Run


class Runs:
    """The runs of one MLflow."""

    def __init__(self, connection: Connection) -> None:
        self._mlflow = connection

    def begin(self, logical_run: str, name: str, tags: dict[str, str]) -> RecordedRun:
        """Find the run of that logical run or open one; a run that was cut short goes on under the same id, in the workspace of `tags`."""
        with self._mlflow.turn(logical_run):
            found = self.find(logical_run)
            if found is None:
                return self._create(logical_run, name, tags)
            if found.verdict is None:
                if WORKSPACE in tags:
                    self._mlflow.ask(
                        lambda mlflow: mlflow.set_tag(
                            found.run_id, WORKSPACE, tags[WORKSPACE]
                        )
                    )
                self._mlflow.ask(
                    lambda mlflow: mlflow.update_run(found.run_id, status="RUNNING")
                )
        return found

    def end_of_dead(self, workspace: str) -> str | None:
        """Where a run still says that it goes on in a workspace whose process is gone, end it as `KILLED`; give its id."""
        query = f"tags.`{WORKSPACE}` = '{workspace}' AND attributes.status = 'RUNNING'"
        for run in self._mlflow.ask(
            lambda mlflow: mlflow.search_runs([self._mlflow.experiment()], query)
        ):
            with self._mlflow.turn(run.data.tags[LOGICAL_RUN]):
                now = self._mlflow.ask(
                    lambda mlflow, run=run: mlflow.get_run(run.info.run_id)  # type: ignore[misc]
                )
                if (now.info.status, now.data.tags[WORKSPACE]) == (
                    "RUNNING",
                    workspace,
                ):  # nobody has taken it up since
                    self.end(now.info.run_id, "KILLED")
                    return str(now.info.run_id)
        return None

    def find(self, logical_run: str) -> RecordedRun | None:
        """The run of that logical run, or None."""
        runs = self._mlflow.ask(
            lambda mlflow: mlflow.search_runs(
                [self._mlflow.experiment()],
                f"tags.`{LOGICAL_RUN}` = '{logical_run}'",
                max_results=1,
            )
        )
        if not runs:
            return None
        tags = runs[0].data.tags
        return RecordedRun(
            run_id=runs[0].info.run_id,
            verdict=None if ERASED in tags else tags.get(VERDICT),
        )

    def last_training(self, model: str) -> JudgedRun | None:
        """The latest run that trained a candidate of that model and was judged, or None; re-scorings of a champion do not count."""
        query = f"tags.`{MODEL}` = '{model}' AND tags.`{VERDICT}` != '' AND attributes.status = 'FINISHED'"
        runs = self._mlflow.ask(
            lambda mlflow: mlflow.search_runs(
                [self._mlflow.experiment()],
                query,
                max_results=100,
                order_by=["attributes.end_time DESC"],
            )
        )
        last = next(
            (run for run in runs if run.data.tags.get(KIND, "train") == "train"), None
        )
        return None if last is None else judged_run(last)

    def log_metrics(self, run_id: str, step: int, metrics: dict[str, float]) -> None:
        """Add points to the run's curves."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in metrics.items()]
        self._mlflow.ask(lambda mlflow: mlflow.log_batch(run_id, metrics=points))

    def log_params(self, run_id: str, params: dict[str, str]) -> None:
        """Record what was asked for; recording the same again changes nothing."""
        from mlflow.entities import Param

        self._mlflow.ask(
            lambda mlflow: mlflow.log_batch(
                run_id,
                params=[Param(name, text[:500]) for name, text in params.items()],
            )
        )

    def record_verdict(self, run_id: str, evidence: Path, page: Page) -> None:
        """Upload the evidence, end the run, and say the verdict last: a run with a verdict is whole."""
        self._mlflow.ask(lambda mlflow: mlflow.log_artifacts(run_id, str(evidence)))
        self._mlflow.ask(
            lambda mlflow: mlflow.set_tag(
                run_id, "mlflow.note.content", page.description
            )
        )
        for name, text in page.tags.items():
            if name != VERDICT:
                self._mlflow.ask(
                    lambda mlflow, name=name, text=text: mlflow.set_tag(  # type: ignore[misc]
                        run_id, name, text
                    )
                )
        self._mlflow.ask(lambda mlflow: mlflow.set_terminated(run_id, "FINISHED"))
        self._mlflow.ask(
            lambda mlflow: mlflow.set_tag(run_id, VERDICT, page.tags[VERDICT])
        )
        if ERASED in self._mlflow.ask(lambda mlflow: mlflow.get_run(run_id)).data.tags:
            self._mlflow.ask(lambda mlflow: mlflow.delete_tag(run_id, ERASED))

    def end(self, run_id: str, status: str) -> None:
        """End a run that came to no verdict (`FAILED` or `KILLED`)."""
        self._mlflow.ask(lambda mlflow: mlflow.set_terminated(run_id, status))

    def tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run."""
        return dict(self._mlflow.ask(lambda mlflow: mlflow.get_run(run_id)).data.tags)

    def fetch_evidence(self, run_id: str, into: Path) -> Path:
        """Download what a run recorded; `into` appears whole or not at all."""
        into.parent.mkdir(parents=True, exist_ok=True)
        with (
            self._mlflow.turn(f"fetch-{into.name}"),
            tempfile.TemporaryDirectory(dir=into.parent) as scratch,
        ):
            whole = Path(scratch) / "whole"
            whole.mkdir()
            self._mlflow.ask(
                lambda mlflow: mlflow.download_artifacts(run_id, "", str(whole))
            )
            shutil.rmtree(into, ignore_errors=True)
            whole.rename(into)
        return into

    def _create(self, logical_run: str, name: str, tags: dict[str, str]) -> RecordedRun:
        experiment = self._mlflow.attempt(self._mlflow.experiment)
        run: Run = self._mlflow.ask(
            lambda mlflow: mlflow.create_run(
                experiment, tags={**tags, LOGICAL_RUN: logical_run}, run_name=name
            )
        )
        return RecordedRun(run_id=run.info.run_id, verdict=None)
