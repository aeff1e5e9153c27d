"""`backup.json`: every file of a backup with its digest, and how far the ledger went.

It also names what the backup needs from outside: base models that were not copied.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, ValidationError

from core.errors import DamagedFile, OperationError
from core.files import digest_of_files, sha256_of
from core.progress import progress_bar
from core.value import Value, first_problem
from registry.ledger.audit import verify_export
from registry.ledger.entries import Digest, Head
from registry.release.package_signature import SIGNATURE

FILE = "backup.json"
FORMAT = 1
# The ledger travels as an export, which needs no database to be verified.
LEDGER = "ledger.jsonl"
# Runs keep what they ran on in the project's git refs, not in the home.
REFS = "refs.bundle"
MARK = ".assay-partial"
"""In a folder that Assay is still filling."""
HOME = "home"
"""The folder inside a backup that becomes the home."""


class CopiedFile(Value):
    """A file as it was copied."""

    sha256: Digest
    bytes: int
    mode: int


class NamedPackage(Value):
    """The package of a release that the ledger names and that is not revoked.

    A backup without it is not complete.
    """

    model: str
    version: str
    sha256: Digest


class KeptBase(Value):
    """A base model that a release needs."""

    digest: Digest
    id: str
    path: str
    """Where its folder was."""
    folder: str | None
    """Its folder in `base-models` of the backup's home; None: it was not copied."""


class Backup(Value):
    """One backup."""

    format: Literal[1] = 1
    made_at: AwareDatetime
    mlflow_folder: str
    """Where MLflow's database and artifacts were."""
    ledger: Head | None
    packages: tuple[NamedPackage, ...]
    bases: tuple[KeptBase, ...]
    files: dict[str, CopiedFile]

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        sizes = [copied.bytes for copied in self.files.values()]
        return sum(sizes)


class _Sealed(Value):
    """The manifest and its own digest, so that a flipped bit in it is noticed."""

    backup: Backup
    sha256: Digest


def write_manifest(backup: Backup, folder: Path) -> None:
    """Write the manifest; last, since a folder without it is no backup."""
    sealed = _Sealed(backup=backup, sha256=backup.content_sha256())
    sealed.write(folder / FILE)


def check_backup(folder: Path) -> Backup:
    """Give the manifest once every byte is verified and nothing that the ledger names is missing.

    `OperationError` where the folder is no backup, `DamagedFile` with the name of the file
    otherwise.
    """
    if not (folder / FILE).is_file():
        raise OperationError(
            f"{folder} is no backup: it has no {FILE}. "
            "Give a folder that `assay backup` made."
        )
    backup = _read_manifest(folder / FILE)
    _check_files(folder, backup)
    _check_packages(folder, backup)
    # A home in which nothing was judged yet has no ledger.
    if backup.ledger is None:
        return backup
    if verify_export(folder / LEDGER).head != backup.ledger:
        raise DamagedFile(
            f"{folder / LEDGER} does not verify up to entry {backup.ledger.generation}. "
            "Use another backup."
        )
    return backup


def _read_manifest(path: Path) -> Backup:
    try:
        sealed = _Sealed.model_validate_json(path.read_bytes())
    except ValidationError as error:
        # A newer format is no damage, and has its own advice.
        _check_format(path)
        raise DamagedFile(
            f"{path} is not whole ({first_problem(error)}). "
            "Use another backup; nothing was restored."
        ) from error
    if sealed.backup.content_sha256() != sealed.sha256:
        raise DamagedFile(
            f"{path} is not what was written. Use another backup; nothing was restored."
        )
    return sealed.backup


def _check_format(path: Path) -> None:
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        document = json.loads(path.read_bytes())
        version = document["backup"]["format"]
        is_newer = isinstance(version, int) and version > FORMAT
        if is_newer:
            raise OperationError(
                f"{path} is of format {version}, from a newer Assay. "
                "Install that one, or use another backup."
            )


def _check_files(folder: Path, backup: Backup) -> None:
    paths = [
        path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    ]
    names = {path.relative_to(folder).as_posix() for path in paths} - {FILE, MARK}
    # A file too many may be as harmful as one too few.
    for name in sorted(names ^ backup.files.keys()):
        fact = "is missing" if name in backup.files else "was added"
        raise DamagedFile(
            f"{folder / name} {fact}. Use another backup; nothing was restored."
        )
    with progress_bar("verifying", len(names)) as advance:
        for name, copied in backup.files.items():
            _check_file(folder / name, copied)
            advance(1)


def _check_file(path: Path, copied: CopiedFile) -> None:
    is_regular = path.is_file() and not path.is_symlink()
    if not is_regular or sha256_of(path) != copied.sha256:
        raise DamagedFile(
            f"{path} is not what was copied. Use another backup; nothing was restored."
        )


def _check_packages(folder: Path, backup: Backup) -> None:
    for package in backup.packages:
        prefix = f"{HOME}/packages/{package.sha256}/"
        # The ledger knows a package by the digest of its files' names and digests.
        digests = {
            name.removeprefix(prefix): copied.sha256
            for name, copied in backup.files.items()
            if name.startswith(prefix)
        }
        # It is no part of what it signs.
        digests.pop(SIGNATURE, None)
        if digest_of_files(digests) != package.sha256:
            raise DamagedFile(
                f"{folder} lacks the whole package of version {package.version} "
                f"of {package.model}, which the ledger names."
            )
