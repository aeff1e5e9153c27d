"""MLflow as Assay's record: one run for each logical run, one version for each finalist, found again by what they are."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from pipelines.errors import DamagedFile, RegistryError
from pipelines.files import digest_of_files, folder_digests
from pipelines.verdict import Finalist
from registry.calls import Calls
from registry.recorded import (
    AUTHOR,
    CHALLENGER,
    ERASED,
    KIND,
    LOGICAL_RUN,
    MODEL,
    PACKAGE,
    SERVING_SPEC,
    VERDICT,
    WORKSPACE,
    JudgedRun,
    Made,
    ModelVersion,
    Page,
    RecordedRun,
    Submission,
    judged_run,
    model_version,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

EXPERIMENT = "assay"


class Store:
    """MLflow's tracking server and registry at one address. Every call is tried a bounded number of times, with jitter."""

    def __init__(self, uri: str, locks: Path) -> None:
        """`uri` is MLflow's address (`sqlite:///…` or `http://…`); `locks` a folder in which registrations take turns."""
        self.uri = uri
        self._calls = Calls(uri)
        self._locks = locks
        self._opened: MlflowClient | None = None

    def begin_run(self, logical_run: str, name: str, tags: dict[str, str]) -> RecordedRun:
        """Find the run of that logical run or open one; a run that was cut short goes on under the same id, in the workspace of `tags`."""
        with self._turn(logical_run):
            found = self.find_run(logical_run) or self._create_run(logical_run, name, tags)
            if found.verdict is None:
                if WORKSPACE in tags:
                    self._calls.attempt(lambda: self._client.set_tag(found.run_id, WORKSPACE, tags[WORKSPACE]))
                self._calls.attempt(lambda: self._client.update_run(found.run_id, status="RUNNING"))
        return found

    def end_run_of_dead(self, workspace: str) -> str | None:
        """Where a run still says that it goes on in a workspace whose process is gone, end it as `KILLED`; give its id."""
        query = f"tags.`{WORKSPACE}` = '{workspace}' AND attributes.status = 'RUNNING'"
        for run in self._calls.attempt(lambda: self._client.search_runs([self._experiment()], query)):
            with self._turn(run.data.tags[LOGICAL_RUN]):
                now = self._calls.attempt(lambda run=run: self._client.get_run(run.info.run_id))  # type: ignore[misc]
                if (now.info.status, now.data.tags[WORKSPACE]) == ("RUNNING", workspace):  # nobody has taken it up since
                    self.end_run(now.info.run_id, "KILLED")
                    return str(now.info.run_id)
        return None

    def find_run(self, logical_run: str) -> RecordedRun | None:
        """The run of that logical run, or None."""
        runs = self._calls.attempt(
            lambda: self._client.search_runs([self._experiment()], f"tags.`{LOGICAL_RUN}` = '{logical_run}'", max_results=1)
        )
        if not runs:
            return None
        tags = runs[0].data.tags
        return RecordedRun(run_id=runs[0].info.run_id, verdict=None if ERASED in tags else tags.get(VERDICT))

    def last_training(self, model: str) -> JudgedRun | None:
        """The latest run that trained a candidate of that model and was judged, or None; re-scorings of a champion do not count."""
        query = f"tags.`{MODEL}` = '{model}' AND tags.`{VERDICT}` != '' AND attributes.status = 'FINISHED'"
        runs = self._calls.attempt(
            lambda: self._client.search_runs([self._experiment()], query, max_results=100, order_by=["attributes.end_time DESC"])
        )
        last = next((run for run in runs if run.data.tags.get(KIND, "train") == "train"), None)
        return None if last is None else judged_run(last)

    def log_metrics(self, run_id: str, step: int, metrics: dict[str, float]) -> None:
        """Add points to the run's curves."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, step) for name, value in metrics.items()]
        self._calls.attempt(lambda: self._client.log_batch(run_id, metrics=points))

    def log_params(self, run_id: str, params: dict[str, str]) -> None:
        """Record what was asked for; recording the same again changes nothing."""
        from mlflow.entities import Param

        self._calls.attempt(lambda: self._client.log_batch(run_id, params=[Param(name, text[:500]) for name, text in params.items()]))

    def record_verdict(self, run_id: str, evidence: Path, page: Page) -> None:
        """Upload the evidence, end the run, and say the verdict last: a run with a verdict is whole."""
        self._calls.attempt(lambda: self._client.log_artifacts(run_id, str(evidence)))
        self._calls.attempt(lambda: self._client.set_tag(run_id, "mlflow.note.content", page.description))
        for name, text in page.tags.items():
            if name != VERDICT:
                self._calls.attempt(lambda name=name, text=text: self._client.set_tag(run_id, name, text))  # type: ignore[misc]
        self._calls.attempt(lambda: self._client.set_terminated(run_id, "FINISHED"))
        self._calls.attempt(lambda: self._client.set_tag(run_id, VERDICT, page.tags[VERDICT]))
        if ERASED in self._calls.attempt(lambda: self._client.get_run(run_id)).data.tags:
            self._calls.attempt(lambda: self._client.delete_tag(run_id, ERASED))

    def end_run(self, run_id: str, status: str) -> None:
        """End a run that came to no verdict (`FAILED` or `KILLED`)."""
        self._calls.attempt(lambda: self._client.set_terminated(run_id, status))

    def register(self, finalist: Finalist, submission: Submission) -> ModelVersion:
        """Register a finalist's package; only a `Finalist` can be, and a second call finds the first one's version.

        The artifacts are complete and verified before the version exists, and the version is created with its tags:
        there is no moment at which it stands without its verdict.
        """
        name, logical_run = submission.model, submission.logical_run
        digests = folder_digests(submission.package)
        if not finalist.findings or any(finding.outcome != "passed" for finding in finalist.findings):
            raise RegistryError("A finalist with a finding that did not pass is forged. Run `dvc repro screen`.")
        with self._turn(f"register-{logical_run}"):
            if self.find_version(name, logical_run) is None:
                source = self._whole_logged_model(submission, digests)
                own = {LOGICAL_RUN: logical_run, VERDICT: finalist.verdict, PACKAGE: digest_of_files(digests)}
                tags = {**submission.page.tags, **own, SERVING_SPEC: finalist.spec.fingerprint}
                self._create_version(submission, source, tags)
            found = self._only_version(name, logical_run)
            if submission.takes_challenger:
                self._calls.attempt(lambda: self._client.set_registered_model_alias(name, CHALLENGER, found.version))
        return found

    def find_version(self, name: str, logical_run: str) -> ModelVersion | None:
        """The version of that logical run, or None."""
        versions = self._versions(name, logical_run)
        return versions[0] if versions else None

    def get_version(self, name: str, version: str) -> ModelVersion:
        """A version by number, or by `@alias`."""
        alias = version.removeprefix("@")
        found = self._calls.look_up(
            lambda: self._get_by_alias(name, alias) if alias != version else self._client.get_model_version(name, version)
        )
        if found is None:
            raise RegistryError(
                f"There is no version {version} of {name}. `assay ui` shows what there is, `assay preview --base` answers with the base."
            )
        return model_version(found)

    def holder(self, name: str, alias: str) -> ModelVersion | None:
        """What holds an alias, or None."""
        found = self._calls.look_up(lambda: self._get_by_alias(name, alias))
        return None if found is None else model_version(found)

    def made(self, version: ModelVersion) -> Made:
        """When a version was registered, and by whom; a run without a name was made by nobody who could approve it."""
        entry = self._calls.attempt(lambda: self._client.get_model_version(version.name, version.version))
        by = self.run_tags(version.run_id).get(AUTHOR, "unknown")
        return Made(at=datetime.fromtimestamp(int(entry.creation_timestamp) / 1000, UTC), by=by)

    def run_tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run."""
        return dict(self._calls.attempt(lambda: self._client.get_run(run_id)).data.tags)

    def annotate(self, version: ModelVersion, tags: dict[str, str]) -> None:
        """Write tags on a version's page."""
        for name, text in tags.items():
            self._calls.attempt(lambda name=name, text=text: self._client.set_model_version_tag(version.name, version.version, name, text))  # type: ignore[misc]

    def pages_with(self, tag: str) -> dict[str, str]:
        """What that tag says on each version page that has it, by `NAME VERSION`."""
        found, token = {}, None
        while True:
            page = self._calls.attempt(lambda token=token: self._client.search_model_versions(max_results=1000, page_token=token))  # type: ignore[misc]
            found.update({f"{each.name} {each.version}": each.tags[tag] for each in page if tag in each.tags})
            token = page.token
            if not token:
                return found

    def move_alias(self, name: str, alias: str, version: str | None) -> None:
        """Have an alias name a version, or nothing."""
        if version is None:
            self._calls.attempt(lambda: self._client.delete_registered_model_alias(name, alias))
        else:
            self._calls.attempt(lambda: self._client.set_registered_model_alias(name, alias, version))

    def fetch(self, version: ModelVersion, into: Path) -> Path:
        """Download a version's package and check every byte; `into` appears whole or not at all."""
        into.parent.mkdir(parents=True, exist_ok=True)
        with self._turn(f"fetch-{into.name}"), tempfile.TemporaryDirectory(dir=into.parent) as scratch:
            if into.is_dir() and digest_of_files(folder_digests(into)) == version.package_sha256:
                return into  # somebody may be reading it: a good one is never replaced
            whole = Path(scratch) / "whole"
            self._download(self._calls.attempt(lambda: self._client.get_model_version_download_uri(version.name, version.version)), whole)
            if digest_of_files(folder_digests(whole)) != version.package_sha256:
                raise DamagedFile(
                    f"Version {version.version} of {version.name} is not what was registered. Train it again; it is not served."
                )
            shutil.rmtree(into, ignore_errors=True)
            whole.rename(into)
        return into

    def fetch_evidence(self, run_id: str, into: Path) -> Path:
        """Download what a run recorded; `into` appears whole or not at all."""
        into.parent.mkdir(parents=True, exist_ok=True)
        with self._turn(f"fetch-{into.name}"), tempfile.TemporaryDirectory(dir=into.parent) as scratch:
            whole = Path(scratch) / "whole"
            whole.mkdir()
            self._calls.attempt(lambda: self._client.download_artifacts(run_id, "", str(whole)))
            shutil.rmtree(into, ignore_errors=True)
            whole.rename(into)
        return into

    @property
    def _client(self) -> "MlflowClient":
        if self._opened is None:
            from mlflow import MlflowClient

            self._opened = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        return self._opened

    def _experiment(self) -> str:
        with self._turn("experiment"):
            found = self._client.get_experiment_by_name(EXPERIMENT)
            return str(found.experiment_id if found else self._client.create_experiment(EXPERIMENT, artifact_location=self._artifacts()))

    def _artifacts(self) -> str | None:
        """Beside the database where MLflow has no server; a server chooses for itself."""
        if not self.uri.startswith("sqlite:///"):
            return None
        return (Path(self.uri.removeprefix("sqlite:///")).parent / "mlflow-artifacts").resolve().as_uri()

    def _create_run(self, logical_run: str, name: str, tags: dict[str, str]) -> RecordedRun:
        experiment = self._calls.attempt(self._experiment)
        run: Run = self._calls.attempt(lambda: self._client.create_run(experiment, tags={**tags, LOGICAL_RUN: logical_run}, run_name=name))
        return RecordedRun(run_id=run.info.run_id, verdict=None)

    def _whole_logged_model(self, submission: Submission, digests: dict[str, str]) -> str:
        """Upload the package as a logged model and read it back; orphans of uploads that were cut short are deleted."""
        name, logical_run = submission.model, submission.logical_run
        experiment = self._calls.attempt(self._experiment)
        # Of this name only: the same work registered under another name is no orphan.
        query = f"name = '{name}' AND tags.`{LOGICAL_RUN}` = '{logical_run}'"
        for orphan in self._calls.attempt(lambda: self._client.search_logged_models([experiment], query)):
            self._calls.attempt(lambda orphan=orphan: self._client.delete_logged_model(orphan.model_id))  # type: ignore[misc]
        model = self._calls.attempt(
            lambda: self._client.create_logged_model(
                experiment, name=name, source_run_id=submission.run.run_id, tags={LOGICAL_RUN: logical_run}, model_type="lora-adapter"
            )
        )
        self._calls.attempt(lambda: self._client.log_model_artifacts(model.model_id, str(submission.package)))
        with tempfile.TemporaryDirectory() as scratch:
            self._download(model.artifact_location, Path(scratch))
            if folder_digests(Path(scratch)) != digests:
                raise DamagedFile(f"What MLflow stored of {name} is not what was uploaded. Run the same command again.")
        self._calls.attempt(lambda: self._client.finalize_logged_model(model.model_id, "READY"))
        return str(model.model_id)

    def _download(self, location: str, into: Path) -> None:
        """Copy what lies at an artifact location. A `models:/` address would be looked up at MLflow's global one, not at `self.uri`."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        into.mkdir(parents=True, exist_ok=True)
        place: Any = get_artifact_repository(location, tracking_uri=self.uri)
        self._calls.attempt(lambda: place.download_artifacts("", dst_path=str(into)))

    def _create_version(self, submission: Submission, model_id: str, tags: dict[str, str]) -> None:
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):  # it exists already; anything else shows when the version is created
            self._client.create_registered_model(submission.model)
        self._calls.attempt(lambda: self._create_version_once(submission, model_id, tags))

    def _create_version_once(self, submission: Submission, model_id: str, tags: dict[str, str]) -> None:
        """An answer that got lost may have created it: look before trying again."""
        if self.find_version(submission.model, submission.logical_run) is None:
            with _as_default_of_mlflow(self.uri):
                self._client.create_model_version(
                    submission.model,
                    f"models:/{model_id}",
                    run_id=submission.run.run_id,
                    tags=tags,
                    description=submission.page.description,
                    model_id=model_id,
                )

    def _only_version(self, name: str, logical_run: str) -> ModelVersion:
        """The first version of a logical run; later ones, made by answers that came late, are deleted."""
        first, *later = self._versions(name, logical_run)
        for version in later:
            self._calls.attempt(lambda number=version.version: self._client.delete_model_version(name, number))  # type: ignore[misc]
        return first

    def _versions(self, name: str, logical_run: str) -> list[ModelVersion]:
        query = f"name = '{name}' AND tags.`{LOGICAL_RUN}` = '{logical_run}'"
        found = self._calls.attempt(lambda: self._client.search_model_versions(query))
        return sorted((model_version(entry) for entry in found), key=lambda version: int(version.version))

    def _get_by_alias(self, name: str, alias: str) -> "MlflowVersion | None":
        # By the model and not by the alias: with accounts, MLflow answers 403 for an alias of a model that does not exist yet.
        number = self._client.get_registered_model(name).aliases.get(alias)
        return None if number is None else self._client.get_model_version(name, str(number))

    @contextlib.contextmanager
    def _turn(self, what: str) -> Iterator[None]:
        self._locks.mkdir(parents=True, exist_ok=True)
        with FileLock(self._locks / f"{what}.lock"):
            yield


@contextlib.contextmanager
def _as_default_of_mlflow(uri: str) -> Iterator[None]:
    """Without a server MLflow looks a version's source up at its default address, whatever address the client has."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before
