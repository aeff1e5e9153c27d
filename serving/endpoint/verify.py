"""Whether the bytes of a release are those that the ledger holds, signed as it says.

Asked before they are loaded, and once more when they are. What is in those bytes (weights, kinds
of files, the findings of the verdict) is checked by the engine process itself, with
`open_package`: that needs torch, which has no place in a process that answers.
"""

from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFile, ServingError, UntrustedSignature
from core.files import digest_of_files
from pipelines.models.base_store import locate_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.verdict import Finalist, read_screen_verdict
from registry.ledger.entries import PublicKey, Release
from registry.release.known_answers import FILE as KNOWN_ANSWERS
from registry.release.known_answers import KnownAnswer, read_known_answers
from registry.release.package_signature import check_signature, package_digests
from serving.load import base_model_name
from serving.package import VERDICT

MANIFEST = "base_model.json"
_REPAIR = (
    "The controller of `assay up` fetches it again; "
    "without one, `assay promote` of that version does."
)


@dataclass(frozen=True)
class VerifiedRelease:
    """A release whose package is, byte by byte, what was judged: only `verify` makes one."""

    release: Release
    folder: Path
    base: BaseModelManifest
    known_answers: tuple[KnownAnswer, ...]

    @property
    def base_name(self) -> str:
        """The name under which its base answers."""
        return base_model_name(self.base)

    @property
    def base_spec(self) -> ServingSpec:
        """What answers under that name."""
        return self.release.spec.with_adapter(None)

    def shared_arguments(self, home: Path) -> list[str]:
        """Of `python -m serving`, for a process of releases such as this one.

        Finds the base model's folder, and checks its bytes.
        """
        base = locate_base_model(self.base, home).resolve()
        return [
            "--shared",
            "--base-folder",
            str(base),
            "--base-manifest",
            str(self.folder / MANIFEST),
            "--precision",
            self.release.spec.precision,
            "--adapted-like",
            str(self.folder),
        ]

    def arguments(self, home: Path, *, with_adapter: bool) -> list[str]:
        """Of `python -m serving`, for the release and its base or for the base by itself.

        Finds the base model's folder, and checks its bytes.
        """
        spec = self.release.spec
        base = locate_base_model(self.base, home).resolve()
        arguments = [
            "--base-folder",
            str(base),
            "--base-manifest",
            str(self.folder / MANIFEST),
            "--precision",
            spec.precision,
            "--default-max-tokens",
            str(spec.default_max_tokens),
        ]
        # The base by itself answers under its own name, with nothing of the release.
        if with_adapter:
            arguments += [
                "--package",
                str(self.folder),
                "--model-name",
                self.release.model,
            ]
        return arguments


def package_folder(home: Path, release: Release) -> Path:
    """Where the package of a release is kept on this machine."""
    return home / "packages" / release.package_sha256


def verify(home: Path, release: Release, signer: PublicKey | None) -> VerifiedRelease:
    """The release, once its package is the one that the ledger names.

    `signer` is the key that the ledger knows under the id that the release names.
    `DamagedFile` where its bytes differ, `UntrustedSignature` where that key did not sign them,
    `ServingError` where it did not pass or was scored in another configuration than the ledger
    says.
    """
    folder = package_folder(home, release)
    # First: nothing of a package is read before its bytes are known to be the right ones.
    check_package(folder, release, signer)
    _check_verdict(folder, release)
    return VerifiedRelease(
        release=release,
        folder=folder,
        base=BaseModelManifest.read(folder / MANIFEST),
        known_answers=read_known_answers(folder / KNOWN_ANSWERS),
    )


def _check_verdict(folder: Path, release: Release) -> None:
    verdict = read_screen_verdict(folder / VERDICT)
    if not isinstance(verdict, Finalist):
        raise ServingError(
            f"{folder / VERDICT} says {verdict.verdict}. Only what passed is served."
        )
    differences = release.spec.differences(verdict.spec)
    if differences:
        raise ServingError(
            f"{folder} was scored in another configuration than was released: "
            f"{'; '.join(differences)}. Promote it again."
        )


def check_package(folder: Path, release: Release, signer: PublicKey | None) -> None:
    """Return only if the folder holds what was judged, signed by the key that was judged.

    What `check_bytes` raises, and `UntrustedSignature`.
    """
    digests = check_bytes(folder, release)
    # The ledger says whether there must be a signature, never the folder: a file can be deleted.
    if release.signed_by is None:
        return
    if signer is None or signer.key_id != release.signed_by:
        raise UntrustedSignature(
            f"Version {release.version} of {release.model} was released with a signature of key "
            f"{release.signed_by[:12]}, which the ledger does not hold. `assay audit verify`."
        )
    try:
        check_signature(folder, (signer,), digests)
    except UntrustedSignature as error:
        raise UntrustedSignature(f"{error} {_REPAIR}") from error


def check_bytes(folder: Path, release: Release) -> dict[str, str]:
    """The digest of each file, if the folder holds exactly the files that were judged.

    Its signature is no file that was judged: `check_package` looks at it.
    `ServingError` where there is no such folder, `DamagedFile` where its bytes differ.
    """
    if not folder.is_dir():
        raise ServingError(
            f"The package of version {release.version} of {release.model} is not in {folder}. "
            f"{_REPAIR}"
        )
    try:
        digests = package_digests(folder)
    except OSError as error:
        raise DamagedFile(
            f"{folder} cannot be read ({error.strerror}). {_REPAIR}"
        ) from error
    digest = digest_of_files(digests)
    if digest != release.package_sha256:
        raise DamagedFile(
            f"{folder} holds other bytes ({digest[:12]}) than the released version "
            f"{release.version} of {release.model}. {_REPAIR}"
        )
    return digests
