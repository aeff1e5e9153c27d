"""MLflow's registry as Assay's record: one version for each finalist, found again by what it is, and the aliases."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.address import shown
from core.errors import DamagedFile, RegistryError
from core.files import digest_of_files, folder_digests
from pipelines.values.verdict import Finalist
from registry.mlflow.connection import Connection
from registry.mlflow.package_folder import is_whole, put_aside
from registry.mlflow.recorded import (
    AUTHOR,
    CHALLENGER,
    LOGICAL_RUN,
    PACKAGE,
    SERVING_SPEC,
    VERDICT,
    Made,
    ModelVersion,
    Submission,
    model_version,
)
from registry.mlflow.runs import Runs

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion


class Store:
    """MLflow's registry at one address, and in `runs` its runs. Every call is tried a bounded number of times, with jitter."""

    def __init__(self, uri: str, locks: Path) -> None:
        """`uri` is MLflow's address (`sqlite:///…` or `http://…`); `locks` a folder in which registrations take turns."""
        self.uri = uri
        self.address = shown(uri)
        """As people may see it."""
        self._mlflow = Connection(uri, locks)
        self.runs = Runs(self._mlflow)

    def register(self, finalist: Finalist, submission: Submission) -> ModelVersion:
        """Register a finalist's package; only a `Finalist` can be, and a second call finds the first one's version.

        The artifacts are complete and verified before the version exists, and the version is created with its tags:
        there is no moment at which it stands without its verdict.
        """
        name, logical_run = submission.model, submission.logical_run
        digests = folder_digests(submission.package)
        if not finalist.findings or any(
            finding.outcome != "passed" for finding in finalist.findings
        ):
            raise RegistryError(
                "A finalist with a finding that did not pass is forged. Run `dvc repro screen`."
            )
        with self._mlflow.turn(f"register-{logical_run}"):
            if self.find_version(name, logical_run) is None:
                source = self._whole_logged_model(submission, digests)
                own = {
                    LOGICAL_RUN: logical_run,
                    VERDICT: finalist.verdict,
                    PACKAGE: digest_of_files(digests),
                }
                tags = {
                    **submission.page.tags,
                    **own,
                    SERVING_SPEC: finalist.spec.fingerprint,
                }
                self._create_version(submission, source, tags)
            found = self._only_version(name, logical_run)
            if submission.takes_challenger:
                self._mlflow.ask(
                    lambda mlflow: mlflow.set_registered_model_alias(
                        name, CHALLENGER, found.version
                    )
                )
        return found

    def find_version(self, name: str, logical_run: str) -> ModelVersion | None:
        """The version of that logical run, or None."""
        versions = self._versions(name, logical_run)
        return versions[0] if versions else None

    def get_version(self, name: str, version: str) -> ModelVersion:
        """A version by number, or by `@alias`."""
        alias = version.removeprefix("@")
        found = (
            self.known(name, version) if alias == version else self.holder(name, alias)
        )
        if found is None:
            raise RegistryError(
                f"There is no version {version} of {name}. {self._names()} `assay ui` shows what there is, "
                "`assay preview --base` answers with the base."
            )
        return found

    def _names(self) -> str:
        names = self._mlflow.ask(
            lambda mlflow: sorted(
                model.name for model in mlflow.search_registered_models(max_results=20)
            )
        )
        return (
            f"Registered models: {', '.join(names)}."
            if names
            else "Nothing is registered yet."
        )

    def known(self, name: str, number: str) -> ModelVersion | None:
        """A version by number, or None where MLflow says that there is none."""
        found = self._mlflow.look_up(
            lambda: self._mlflow.client.get_model_version(name, number)
        )
        return None if found is None else model_version(found)

    def holder(self, name: str, alias: str) -> ModelVersion | None:
        """What holds an alias, or None."""
        found = self._mlflow.look_up(lambda: self._get_by_alias(name, alias))
        return None if found is None else model_version(found)

    def holders(self, alias: str) -> dict[str, str]:
        """The number of the version that holds an alias, for each registered model in which one does."""
        found, token = {}, None
        while True:
            page = self._mlflow.ask(
                lambda mlflow, token=token: mlflow.search_registered_models(  # type: ignore[misc]
                    max_results=1000, page_token=token
                )
            )
            found.update(
                {
                    model.name: str(model.aliases[alias])
                    for model in page
                    if alias in model.aliases
                }
            )
            token = page.token
            if not token:
                return found

    def made(self, version: ModelVersion) -> Made:
        """When a version was registered, and by whom; a run without a name was made by nobody who could approve it."""
        entry = self._mlflow.ask(
            lambda mlflow: mlflow.get_model_version(version.name, version.version)
        )
        by = self.runs.tags(version.run_id).get(AUTHOR, "unknown")
        return Made(
            at=datetime.fromtimestamp(int(entry.creation_timestamp) / 1000, UTC), by=by
        )

    def annotate(self, version: ModelVersion, tags: dict[str, str]) -> None:
        """Write tags on a version's page."""
        for name, text in tags.items():
            self._mlflow.ask(
                lambda mlflow, name=name, text=text: mlflow.set_model_version_tag(  # type: ignore[misc]
                    version.name, version.version, name, text
                )
            )

    def pages_with(self, tag: str) -> dict[str, str]:
        """What that tag says on each version page that has it, by `NAME VERSION`."""
        found, token = {}, None
        while True:
            page = self._mlflow.ask(
                lambda mlflow, token=token: mlflow.search_model_versions(  # type: ignore[misc]
                    max_results=1000, page_token=token
                )
            )
            found.update(
                {
                    f"{each.name} {each.version}": each.tags[tag]
                    for each in page
                    if tag in each.tags
                }
            )
            token = page.token
            if not token:
                return found

    def move_alias(self, name: str, alias: str, version: str | None) -> None:
        """Have an alias name a version, or nothing."""
        if version is None:
            self._mlflow.ask(
                lambda mlflow: mlflow.delete_registered_model_alias(name, alias)
            )
        else:
            self._mlflow.ask(
                lambda mlflow: mlflow.set_registered_model_alias(name, alias, version)
            )

    def fetch(self, version: ModelVersion, into: Path) -> Path:
        """Download a version's package and check every byte; `into` appears whole or not at all.

        A damaged folder that lies there is put aside, and only once a good one is there to take its place.
        """
        into.parent.mkdir(parents=True, exist_ok=True)
        with (
            self._mlflow.turn(f"fetch-{into.name}"),
            tempfile.TemporaryDirectory(dir=into.parent) as scratch,
        ):
            if is_whole(into, version.package_sha256):
                return into  # somebody may be reading it: a good one is never replaced
            whole = Path(scratch) / "whole"
            self._download(
                self._mlflow.ask(
                    lambda mlflow: mlflow.get_model_version_download_uri(
                        version.name, version.version
                    )
                ),
                whole,
            )
            if digest_of_files(folder_digests(whole)) != version.package_sha256:
                raise DamagedFile(
                    f"Version {version.version} of {version.name} is not what was registered. Train it again; it is not served."
                )
            put_aside(into)
            whole.rename(into)
        return into

    def _whole_logged_model(
        self, submission: Submission, digests: dict[str, str]
    ) -> str:
        """Upload the package as a logged model and read it back; orphans of uploads that were cut short are deleted."""
        name, logical_run = submission.model, submission.logical_run
        experiment = self._mlflow.attempt(self._mlflow.experiment)
        # Of this name only: the same work registered under another name is no orphan.
        query = f"name = '{name}' AND tags.`{LOGICAL_RUN}` = '{logical_run}'"
        for orphan in self._mlflow.ask(
            lambda mlflow: mlflow.search_logged_models([experiment], query)
        ):
            self._mlflow.ask(
                lambda mlflow, orphan=orphan: mlflow.delete_logged_model(  # type: ignore[misc]
                    orphan.model_id
                )
            )
        model = self._mlflow.ask(
            lambda mlflow: mlflow.create_logged_model(
                experiment,
                name=name,
                source_run_id=submission.run.run_id,
                tags={LOGICAL_RUN: logical_run},
                model_type="lora-adapter",
            )
        )
        self._mlflow.ask(
            lambda mlflow: mlflow.log_model_artifacts(
                model.model_id, str(submission.package)
            )
        )
        with tempfile.TemporaryDirectory() as scratch:
            self._download(model.artifact_location, Path(scratch))
            if folder_digests(Path(scratch)) != digests:
                raise DamagedFile(
                    f"What MLflow stored of {name} is not what was uploaded. Run the same command again."
                )
        self._mlflow.ask(
            lambda mlflow: mlflow.finalize_logged_model(model.model_id, "READY")
        )
        return str(model.model_id)

    def _download(self, location: str, into: Path) -> None:
        """Copy what lies at an artifact location. A `models:/` address would be looked up at MLflow's global one, not at `self.uri`."""
        from mlflow.store.artifact.artifact_repository_registry import (
            get_artifact_repository,
        )

        into.mkdir(parents=True, exist_ok=True)
        place: Any = get_artifact_repository(location, tracking_uri=self.uri)
        self._mlflow.attempt(lambda: place.download_artifacts("", dst_path=str(into)))

    def _create_version(
        self, submission: Submission, model_id: str, tags: dict[str, str]
    ) -> None:
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(
            MlflowException
        ):  # it exists already; anything else shows when the version is created
            self._mlflow.client.create_registered_model(submission.model)
        self._mlflow.attempt(
            lambda: self._create_version_once(submission, model_id, tags)
        )

    def _create_version_once(
        self, submission: Submission, model_id: str, tags: dict[str, str]
    ) -> None:
        """An answer that got lost may have created it: look before trying again."""
        if self.find_version(submission.model, submission.logical_run) is None:
            with _as_default_of_mlflow(self.uri):
                self._mlflow.client.create_model_version(
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
            self._mlflow.ask(
                lambda mlflow, number=version.version: mlflow.delete_model_version(  # type: ignore[misc]
                    name, number
                )
            )
        return first

    def _versions(self, name: str, logical_run: str) -> list[ModelVersion]:
        query = f"name = '{name}' AND tags.`{LOGICAL_RUN}` = '{logical_run}'"
        found = self._mlflow.ask(lambda mlflow: mlflow.search_model_versions(query))
        return sorted(
            (model_version(entry) for entry in found),
            key=lambda version: int(version.version),
        )

    def _get_by_alias(self, name: str, alias: str) -> "MlflowVersion | None":
        # By the model and not by the alias: with accounts, MLflow answers 403 for an alias of a model that does not exist yet.
        number = self._mlflow.client.get_registered_model(name).aliases.get(alias)
        return (
            None
            if number is None
            else self._mlflow.client.get_model_version(name, str(number))
        )


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
