"""Package folders of what serves: fetch a damaged one again before an engine must start from it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from core.errors import AssayError, UntrustedSignature
from registry.ledger.entries import PublicKey, Release
from registry.ledger.state import LedgerState, ModelState
from registry.mlflow.package_folder import list_set_aside
from registry.mlflow.recorded import ModelVersion
from registry.mlflow.signatures import put_signature
from registry.mlflow.store import Store
from registry.release.package_signature import check_signature
from serving.endpoint.package_watch import PackageWatch
from serving.endpoint.verify import package_folder

SECONDS_BETWEEN_TRIES = 60.0
_Key = tuple[str, str | None]


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


def signer_of(ledger_state: LedgerState, release: Release) -> PublicKey | None:
    """The key that signed the package of a release; None where it was released without."""
    if release.signed_by is None:
        return None
    return ledger_state.known_key(release.signed_by)


def package_fault(home: Path, release: Release, signer: PublicKey | None) -> str:
    """What is wrong with the package's folder, read byte by byte; empty where it is whole."""
    return PackageWatch(home, release, signer).look()


def fetch_released_package(
    home: Path, release: Release, store: Store, signer: PublicKey | None
) -> Path | None:
    """Fetch a package from MLflow, so that its folder is whole, with its signature.

    Gives where a damaged folder was moved to, None where there was none. `RegistryError` where
    MLflow does not have those bytes, `UntrustedSignature` where it does not have their signature.
    """
    version = store.get_version(release.model, release.version)
    folder = package_folder(home, release)
    aside_before = list_set_aside(folder.parent)
    # The ledger names the bytes: a tag in MLflow can be edited and must not decide here.
    digest = {"package_sha256": release.package_sha256}
    store.fetch(version.model_copy(update=digest), folder)
    _mend_signature(folder, version, store, signer)
    for path in reversed(list_set_aside(folder.parent)):
        is_new = path not in aside_before
        # Another process may have moved the folder of another package meanwhile.
        if is_new and path.name.startswith(folder.name):
            return path
    return None


def _mend_signature(
    folder: Path, version: ModelVersion, store: Store, signer: PublicKey | None
) -> None:
    """Put MLflow's signature in the place of one that is not the released package's."""
    if signer is None:
        return
    # A good one is never replaced: MLflow's may have been exchanged.
    with suppress(UntrustedSignature):
        check_signature(folder, (signer,))
        return
    stored = store.signatures.read(version)
    if stored is not None:
        put_signature(folder, stored)
    check_signature(folder, (signer,))


def _key(release: Release) -> _Key:
    """A package and whose signature it must bear: one that was signed again is looked at anew."""
    return release.package_sha256, release.signed_by


class PackageRepair:
    """Checks the packages that a home's ledger needs at every round, and fetches damaged ones."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._watches: dict[_Key, PackageWatch] = {}
        self._signers: dict[str, PublicKey | None] = {}
        self._failures: dict[str, tuple[float, str]] = {}

    def damaged(self, ledger_state: LedgerState) -> tuple[Release, ...]:
        """Each release whose package is not what was released."""
        releases = {_key(release): release for release in releases_needed(ledger_state)}
        watches = {}
        for key, release in releases.items():
            signer = signer_of(ledger_state, release)
            self._signers[release.package_sha256] = signer
            new = PackageWatch(self._home, release, signer)
            watches[key] = self._watches.get(key, new)
        # Packages that are needed no more are forgotten here.
        self._watches = watches
        faulty = {key for key, watch in watches.items() if watch.look()}
        return tuple(release for key, release in releases.items() if key in faulty)

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
            signer = self._signers.get(digest)
            aside = fetch_released_package(
                self._home,
                release,
                store,
                signer,
            )
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
