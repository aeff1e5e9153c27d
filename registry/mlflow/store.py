"""MLflow's registry as Assay's record: one version for each finalist, and the aliases."""

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
from registry.mlflow.card import begin_with
from registry.mlflow.connection import Connection, each_of_pages
from registry.mlflow.package_folder import is_whole, put_aside
from registry.mlflow.places import check_place
from registry.mlflow.recorded import (
    AUTHOR,
    CHALLENGER,
    LOGICAL_RUN,
    PACKAGE,
    SERVING_SPEC,
    VERDICT,
    Creation,
    ModelVersion,
    Submission,
    parse_version,
)
from registry.mlflow.reviews import Reviews
from registry.mlflow.runs import Runs
from registry.mlflow.signatures import Signatures
from registry.mlflow.webhooks import Webhooks
from registry.release.package_signature import digest_of_package, package_digests

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

_PAGE = 1000


class Store:
    """MLflow's registry at one address, and in `runs` its runs.

    Every call is tried a bounded number of times, with jitter, and may raise `RegistryError`.
    """

    def __init__(self, uri: str, locks: Path) -> None:
        """`uri`: `sqlite:///…` or `http://…`; `locks`: a folder of locks for registrations."""
        self.uri = uri
        self.address = shown(uri)
        """As people may see it, without login."""
        self._mlflow = Connection(uri, locks)
        self.runs = Runs(self._mlflow)
        self.signatures = Signatures(self._mlflow, uri)
        self.webhooks = Webhooks(self._mlflow)
        self.reviews = Reviews(self._mlflow)

    def register(self, finalist: Finalist, submission: Submission) -> ModelVersion:
        """Register a finalist's package; only a `Finalist` can be.

        A second call finds the first one's version. The artifacts are complete and verified before
        the version exists, and it is created with its tags: at no moment is it without its verdict.
        `RegistryError` where a finding did not pass; `DamagedFile` where the upload is damaged.
        """
        digests = package_digests(submission.package)
        _check_passed(finalist)
        name, logical_run = submission.model, submission.logical_run
        # One at a time: two processes with the same work must create one version.
        with self._mlflow.turn(f"register-{logical_run}"):
            if self.find_version(name, logical_run) is None:
                model_id = self._upload(submission)
                tags = _version_tags(finalist, submission, digests)
                self._create_version(submission, model_id, tags)
            version = self._only_version(name, logical_run)
            if submission.takes_challenger:
                self.move_alias(name, CHALLENGER, version.version)
        return version

    def find_version(self, name: str, logical_run: str) -> ModelVersion | None:
        """The version of that logical run, or None."""
        versions = self._versions(name, logical_run)
        return versions[0] if versions else None

    def get_version(self, name: str, version: str) -> ModelVersion:
        """A version by number, or by `@alias`; `RegistryError` where there is none."""
        alias = version.removeprefix("@")
        is_alias = alias != version
        registered = self.holder(name, alias) if is_alias else self.known(name, version)
        if registered is None:
            raise RegistryError(
                f"There is no version {version} of {name}. {self._list_names()} "
                "`assay ui` shows what there is, "
                "`assay preview --base` answers with the base."
            )
        return registered

    def _list_names(self) -> str:
        models = self._mlflow.ask(
            lambda mlflow: mlflow.search_registered_models(max_results=20)
        )
        names = sorted(model.name for model in models)
        if not names:
            return "Nothing is registered yet."
        return f"Registered models: {', '.join(names)}."

    def known(self, name: str, number: str) -> ModelVersion | None:
        """A version by number, or None where MLflow says that there is none."""
        entry = self._mlflow.look_up(
            lambda: self._mlflow.client.get_model_version(name, number)
        )
        return None if entry is None else parse_version(entry)

    def holder(self, name: str, alias: str) -> ModelVersion | None:
        """The version that has an alias, or None."""
        entry = self._mlflow.look_up(lambda: self._get_by_alias(name, alias))
        return None if entry is None else parse_version(entry)

    def holders(self, alias: str) -> dict[str, str]:
        """The number of the version that has an alias, by the name of each model with one."""
        models = each_of_pages(
            lambda token: self._mlflow.ask(
                lambda mlflow: mlflow.search_registered_models(
                    max_results=_PAGE, page_token=token
                )
            )
        )
        return {
            model.name: str(model.aliases[alias])
            for model in models
            if alias in model.aliases
        }

    def find_creation(self, version: ModelVersion) -> Creation:
        """When a version was registered, and who requested its training."""
        entry = self._mlflow.ask(
            lambda mlflow: mlflow.get_model_version(version.name, version.version)
        )
        # A run without an author was made by nobody who could approve it.
        author = self.runs.tags(version.run_id).get(AUTHOR, "unknown")
        # MLflow counts milliseconds.
        registered_at = datetime.fromtimestamp(
            int(entry.creation_timestamp) / 1000, UTC
        )
        return Creation(at=registered_at, by=author)

    def annotate(self, version: ModelVersion, tags: dict[str, str]) -> None:
        """Write tags on a version's page."""
        for tag, text in tags.items():
            self._set_tag(version, tag, text)

    def page_tags(self, version: ModelVersion) -> dict[str, str]:
        """Every tag of a version's page."""
        entry = self._mlflow.ask(
            lambda mlflow: mlflow.get_model_version(version.name, version.version)
        )
        return dict(entry.tags or {})

    def _set_tag(self, version: ModelVersion, tag: str, text: str) -> None:
        self._mlflow.ask(
            lambda mlflow: mlflow.set_model_version_tag(
                version.name, version.version, tag, text
            )
        )

    def pages_with(self, tag: str) -> dict[str, str]:
        """What that tag says on each version page that has it, by `NAME VERSION`."""
        versions = each_of_pages(
            lambda token: self._mlflow.ask(
                lambda mlflow: mlflow.search_model_versions(
                    max_results=_PAGE, page_token=token
                )
            )
        )
        return {
            f"{version.name} {version.version}": version.tags[tag]
            for version in versions
            if tag in version.tags
        }

    def put_first(self, version: ModelVersion, text: str) -> None:
        """Have a version's page begin with that text, in place of what was put first before."""
        entry = self._mlflow.ask(
            lambda mlflow: mlflow.get_model_version(version.name, version.version)
        )
        description = begin_with(text, entry.description or "")
        # Only a change is written: MLflow shows when a page was last modified.
        if description != entry.description:
            self._mlflow.ask(
                lambda mlflow: mlflow.update_model_version(
                    version.name, version.version, description
                )
            )

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

        `DamagedFile` where MLflow's copy is not what was registered.
        """
        into.parent.mkdir(parents=True, exist_ok=True)
        with (
            self._mlflow.turn(f"fetch-{into.name}"),
            # Beside its destination: a rename across file systems would not be atomic.
            tempfile.TemporaryDirectory(dir=into.parent) as scratch,
        ):
            # Somebody may be reading it: a good one is never replaced.
            if is_whole(into, version.package_sha256):
                self.signatures.complete(version, into)
                return into
            download = Path(scratch) / "whole"
            location = self._mlflow.ask(
                lambda mlflow: mlflow.get_model_version_download_uri(
                    version.name, version.version
                )
            )
            self._download(location, download)
            if digest_of_package(download) != version.package_sha256:
                raise DamagedFile(
                    f"Version {version.version} of {version.name} is not what was registered. "
                    "Train it again; it is not served."
                )
            # A damaged folder is moved only once a good one can take its place.
            put_aside(into)
            download.rename(into)
        return into

    def _upload(self, submission: Submission) -> str:
        """Upload the package as a logged model, read it back, and give the model's id."""
        name = submission.model
        experiment = self._mlflow.attempt(self._mlflow.experiment)
        self._delete_orphans(experiment, submission)
        model = self._mlflow.ask(
            lambda mlflow: mlflow.create_logged_model(
                experiment,
                name=name,
                source_run_id=submission.run.run_id,
                tags={LOGICAL_RUN: submission.logical_run},
                model_type="lora-adapter",
            )
        )
        package = str(submission.package)
        self._mlflow.ask(
            lambda mlflow: mlflow.log_model_artifacts(model.model_id, package)
        )
        # MLflow's answer says that it took the files, not that it stored them whole.
        with tempfile.TemporaryDirectory() as scratch:
            stored = Path(scratch)
            self._download(model.artifact_location, stored)
            # All files, its signature among them: the version begins with it.
            if folder_digests(stored) != folder_digests(submission.package):
                raise DamagedFile(
                    f"What MLflow stored of {name} is not what was uploaded. "
                    "Run the same command again."
                )
        self._mlflow.ask(
            lambda mlflow: mlflow.finalize_logged_model(model.model_id, "READY")
        )
        return str(model.model_id)

    def _delete_orphans(self, experiment: str, submission: Submission) -> None:
        """Delete what interrupted uploads of the same work left behind."""
        # Of this name only: the same work registered under another name is no orphan.
        query = _query_for(submission.model, submission.logical_run)
        orphans = self._mlflow.ask(
            lambda mlflow: mlflow.search_logged_models([experiment], query)
        )
        for orphan in orphans:
            self._delete_logged_model(orphan.model_id)

    def _delete_logged_model(self, model_id: str) -> None:
        self._mlflow.ask(lambda mlflow: mlflow.delete_logged_model(model_id))

    def _download(self, location: str, into: Path) -> None:
        """Copy everything from an artifact location."""
        from mlflow.store.artifact.artifact_repository_registry import (
            get_artifact_repository,
        )

        check_place(location, self.uri)
        into.mkdir(parents=True, exist_ok=True)
        # A `models:/` address would be looked up at MLflow's global address, not at `self.uri`.
        repository: Any = get_artifact_repository(location, tracking_uri=self.uri)
        self._mlflow.attempt(
            lambda: repository.download_artifacts("", dst_path=str(into))
        )

    def _create_version(
        self, submission: Submission, model_id: str, tags: dict[str, str]
    ) -> None:
        from mlflow.exceptions import MlflowException

        # The model exists already; any other error appears when the version is created.
        with contextlib.suppress(MlflowException):
            self._mlflow.client.create_registered_model(submission.model)
        self._mlflow.attempt(
            lambda: self._create_version_once(submission, model_id, tags)
        )

    def _create_version_once(
        self, submission: Submission, model_id: str, tags: dict[str, str]
    ) -> None:
        # A lost answer may have created it: look before trying again.
        if self.find_version(submission.model, submission.logical_run) is not None:
            return
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
        """The first version of a logical run; later ones are deleted.

        Those were created by requests whose answers came late.
        """
        earliest, *later = self._versions(name, logical_run)
        for version in later:
            self._delete_version(name, version.version)
        return earliest

    def _delete_version(self, name: str, number: str) -> None:
        self._mlflow.ask(lambda mlflow: mlflow.delete_model_version(name, number))

    def _versions(self, name: str, logical_run: str) -> list[ModelVersion]:
        query = _query_for(name, logical_run)
        entries = self._mlflow.ask(lambda mlflow: mlflow.search_model_versions(query))
        versions = [parse_version(entry) for entry in entries]
        # By number: as texts, 10 would come before 9.
        return sorted(versions, key=lambda version: int(version.version))

    def _get_by_alias(self, name: str, alias: str) -> "MlflowVersion | None":
        # By the model and not by the alias: with accounts, MLflow answers 403 for an alias of a
        # model that does not exist yet.
        model = self._mlflow.client.get_registered_model(name)
        number = model.aliases.get(alias)
        if number is None:
            return None
        return self._mlflow.client.get_model_version(name, str(number))


def _check_passed(finalist: Finalist) -> None:
    outcomes = {finding.outcome for finding in finalist.findings}
    # Asked this way round, no finding at all is no pass.
    if outcomes != {"passed"}:
        raise RegistryError(
            "A finalist with a finding that did not pass is forged. Run `dvc repro screen`."
        )


def _version_tags(
    finalist: Finalist, submission: Submission, digests: dict[str, str]
) -> dict[str, str]:
    """The page's tags, then those that identify the version, which no page may replace."""
    return {
        **submission.page.tags,
        LOGICAL_RUN: submission.logical_run,
        VERDICT: finalist.verdict,
        PACKAGE: digest_of_files(digests),
        SERVING_SPEC: finalist.spec.fingerprint,
    }


def _query_for(name: str, logical_run: str) -> str:
    return f"name = '{name}' AND tags.`{LOGICAL_RUN}` = '{logical_run}'"


@contextlib.contextmanager
def _as_default_of_mlflow(uri: str) -> Iterator[None]:
    # Without a server MLflow looks up a version's source at its default address, whatever
    # address the client has.
    former = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        if former is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = former
