"""Package folders of what serves: fetch a damaged one again before an engine must start from it."""

import time
from collections.abc import Iterator
from pathlib import Path

from core.errors import AssayError
from registry.ledger.entries import Release
from registry.ledger.state import LedgerState, ModelState
from registry.mlflow.package_folder import list_set_aside
from registry.mlflow.store import Store
from serving.endpoint.package_watch import PackageWatch
from serving.endpoint.verify import package_folder

SECONDS_BETWEEN_TRIES = 60.0


def releases_needed(ledger_state: LedgerState) -> tuple[Release, ...]:
    """Every release whose package must be whole on this machine.

    Of each model: what serves, what is on its way, and where a rollback would go. Of a model
    whose base answers after a revocation: the package that names the base's files.
    """
    releases: list[Release] = []
    for model in ledger_state.models.values():
        releases += _releases_of(model)
    return tuple(releases)


def _releases_of(model: ModelState) -> Iterator[Release]:
    for recorded in (model.current, model.pending, model.before):
        # Of these three an engine may have to start at any moment.
        if recorded is not None:
            yield recorded.release
    if model.current is None and model.serves_base and model.once_served:
        yield model.once_served[-1].release


def package_fault(home: Path, release: Release) -> str:
    """What is wrong with the package's folder, read byte by byte; empty where it is whole."""
    return PackageWatch(home, release).look()


def fetch_released_package(home: Path, release: Release, store: Store) -> Path | None:
    """Fetch a package from MLflow, so that its folder is whole.

    Gives where a damaged folder was moved to, None where there was none. `RegistryError` where
    MLflow does not have those bytes.
    """
    version = store.get_version(release.model, release.version)
    folder = package_folder(home, release)
    aside_before = list_set_aside(folder.parent)
    # The ledger names the bytes: a tag in MLflow can be edited and must not decide here.
    digest = {"package_sha256": release.package_sha256}
    store.fetch(version.model_copy(update=digest), folder)
    for path in reversed(list_set_aside(folder.parent)):
        is_new = path not in aside_before
        # Another process may have moved the folder of another package meanwhile.
        if is_new and path.name.startswith(folder.name):
            return path
    return None


class PackageRepair:
    """Checks the packages that a home's ledger needs at every round, and fetches damaged ones."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._watches: dict[str, PackageWatch] = {}
        self._failures: dict[str, tuple[float, str]] = {}

    def damaged(self, ledger_state: LedgerState) -> tuple[Release, ...]:
        """Each release whose package is not what was released."""
        releases = {}
        for release in releases_needed(ledger_state):
            releases[release.package_sha256] = release
        # Packages that are needed no more are forgotten here.
        self._watches = {
            digest: self._watches.get(digest) or PackageWatch(self._home, release)
            for digest, release in releases.items()
        }
        faulty = {digest for digest, watch in self._watches.items() if watch.look()}
        return tuple(releases[digest] for digest in releases if digest in faulty)

    def repair(self, release: Release, store: Store) -> str:
        """Fetch one package again and say what became of it.

        After a failure the same sentence is given for a minute: each try is a download.
        """
        digest = release.package_sha256
        failed_at, sentence = self._failures.get(digest, (0.0, ""))
        if sentence and time.monotonic() - failed_at < SECONDS_BETWEEN_TRIES:
            return sentence
        name = f"The package of {release.model} version {release.version}"
        try:
            aside = fetch_released_package(self._home, release, store)
        except (AssayError, OSError) as error:
            folder = package_folder(self._home, release)
            sentence = (
                f"{name} is damaged ({folder}) and could not be fetched again: {error} "
                "Put the folder back from a backup."
            )
            # Remembered: the controller comes round every five seconds.
            self._failures[digest] = (time.monotonic(), sentence)
            return sentence
        self._failures.pop(digest, None)
        fate = "Its folder was not there."
        if aside:
            fate = f"The damaged folder lies in {aside}: find out who changed it."
        return f"{name} was damaged and has been fetched again from MLflow. {fate}"
