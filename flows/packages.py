"""Package folders of what serves: a damaged one is fetched again from MLflow, before an engine has to be started from it."""

import time
from collections.abc import Iterator
from pathlib import Path

from core.errors import AssayError
from registry.ledger.entries import Release
from registry.ledger.state import LedgerState, ModelState
from registry.mlflow.package_folder import all_aside
from registry.mlflow.recorded import ModelVersion
from registry.mlflow.store import Store
from serving.endpoint.package_watch import PackageWatch
from serving.endpoint.verify import package_folder

SECONDS_BETWEEN_TRIES = 60.0


def releases_needed(ledger_state: LedgerState) -> tuple[Release, ...]:
    """Of every model what serves, what is on its way and what would be gone back to; of a revoked one the base's files."""
    return tuple(
        release for model in ledger_state.models.values() for release in _needed(model)
    )


def _needed(model: ModelState) -> Iterator[Release]:
    for held in (model.current, model.pending, model.before):
        if held is not None:
            yield held.release
    if model.current is None and model.serves_base and model.once_served:
        yield model.once_served[-1].release


def package_fault(home: Path, release: Release) -> str:
    """What is wrong with its folder, read byte by byte; empty where nothing is."""
    return PackageWatch(home, release).look()


def fetch_package(home: Path, release: Release, store: Store) -> Path | None:
    """Fetch it, so that its folder is whole; gives where a damaged one was put aside, if there was one."""
    found, folder = (
        store.get_version(release.model, release.version),
        package_folder(home, release),
    )
    before = all_aside(folder.parent)
    # By what the ledger says: a tag in MLflow can be edited, and must not decide which bytes come into this folder.
    store.fetch(_of_these_bytes(found, release), folder)
    new = [
        each
        for each in all_aside(folder.parent)
        if each not in before and each.name.startswith(folder.name)
    ]
    return new[-1] if new else None


def _of_these_bytes(found: ModelVersion, release: Release) -> ModelVersion:
    return found.model_copy(update={"package_sha256": release.package_sha256})


class Packages:
    """The packages that one home's ledger needs, looked at again and again."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._watched: dict[str, PackageWatch] = {}
        self._failed: dict[str, tuple[float, str]] = {}

    def damaged(self, ledger_state: LedgerState) -> tuple[Release, ...]:
        """Each release whose package is not what was released."""
        needed = {
            release.package_sha256: release for release in releases_needed(ledger_state)
        }
        self._watched = {
            digest: self._watch(release) for digest, release in needed.items()
        }
        return tuple(
            release
            for digest, release in needed.items()
            if self._watched[digest].look()
        )

    def repair(self, release: Release, store: Store) -> str:
        """Fetch one again; what became of it, as a sentence. After a try that failed the next one waits a while: each is a download."""
        tried, sentence = self._failed.get(release.package_sha256, (0.0, ""))
        if sentence and time.monotonic() - tried < SECONDS_BETWEEN_TRIES:
            return sentence
        name = f"The package of {release.model} version {release.version}"
        try:
            aside = fetch_package(self._home, release, store)
        except (AssayError, OSError) as error:
            folder = package_folder(self._home, release)
            sentence = f"{name} is damaged ({folder}) and could not be fetched again: {error} Put the folder back from a backup."
            self._failed[release.package_sha256] = time.monotonic(), sentence
            return sentence
        self._failed.pop(release.package_sha256, None)
        where = (
            f"The damaged folder lies in {aside}: find out who changed it."
            if aside
            else "Its folder was not there."
        )
        return f"{name} was damaged and has been fetched again from MLflow. {where}"

    def _watch(self, release: Release) -> PackageWatch:
        return self._watched.get(release.package_sha256) or PackageWatch(
            self._home, release
        )
