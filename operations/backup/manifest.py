"""`backup.json`: every file of a backup with its digest, how far the ledger went, and what the backup leans on outside of itself."""

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

FILE = "backup.json"
FORMAT = 1
LEDGER = "ledger.jsonl"
REFS = "refs.bundle"
MARK = ".assay-partial"
"""Whose folder it is, while it is being filled."""
HOME = "home"
"""The folder inside a backup that becomes the home."""


class CopiedFile(Value):
    """A file as it was copied."""

    sha256: Digest
    bytes: int
    mode: int


class NamedPackage(Value):
    """The package of a release that the ledger names and that is not revoked: a backup without it is none."""

    model: str
    version: str
    sha256: Digest


class KeptBase(Value):
    """A base model that a release needs."""

    digest: Digest
    id: str
    path: str
    """Where its folder lay."""
    folder: str | None
    """Its folder in `base-models` of the backup's home; None: it was not copied."""


class Backup(Value):
    """One backup."""

    format: Literal[1] = 1
    made_at: AwareDatetime
    mlflow_folder: str
    """Where MLflow's database and artifacts lay."""
    ledger: Head | None
    packages: tuple[NamedPackage, ...]
    bases: tuple[KeptBase, ...]
    files: dict[str, CopiedFile]

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(each.bytes for each in self.files.values())


class _Sealed(Value):
    """The manifest and its own digest: a bit that flips in it shows."""

    backup: Backup
    sha256: Digest


def write_manifest(backup: Backup, folder: Path) -> None:
    """Write it last: a folder without it is no backup."""
    _Sealed(backup=backup, sha256=backup.content_sha256()).write(folder / FILE)


def check_backup(folder: Path) -> Backup:
    """The backup, once every byte of it is what was copied and it holds what its ledger names; else `DamagedFile` names the file."""
    if not (folder / FILE).is_file():
        raise OperationError(
            f"{folder} is no backup: it has no {FILE}. Give a folder that `assay backup` made."
        )
    backup = _read_manifest(folder / FILE)
    _check_files(folder, backup)
    _check_packages(folder, backup)
    if (
        backup.ledger is not None
        and verify_export(folder / LEDGER).head != backup.ledger
    ):
        raise DamagedFile(
            f"{folder / LEDGER} does not verify up to entry {backup.ledger.generation}. Use another backup."
        )
    return backup


def _read_manifest(path: Path) -> Backup:
    try:
        sealed = _Sealed.model_validate_json(path.read_bytes())
    except ValidationError as error:
        _check_format(path)
        raise DamagedFile(
            f"{path} is not whole ({first_problem(error)}). Use another backup; nothing was restored."
        ) from error
    if sealed.backup.content_sha256() != sealed.sha256:
        raise DamagedFile(
            f"{path} is not what was written. Use another backup; nothing was restored."
        )
    return sealed.backup


def _check_format(path: Path) -> None:
    """One that this Assay does not know may be whole all the same."""
    with suppress(ValueError, LookupError, TypeError, RecursionError):
        found = json.loads(path.read_bytes())["backup"]["format"]
        if isinstance(found, int) and found > FORMAT:
            raise OperationError(
                f"{path} is of format {found}, from a newer Assay. Install that one, or use another backup."
            )


def _check_files(folder: Path, backup: Backup) -> None:
    there = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    } - {FILE, MARK}
    for name in sorted(there ^ backup.files.keys()):
        fact = "is missing" if name in backup.files else "was added"
        raise DamagedFile(
            f"{folder / name} {fact}. Use another backup; nothing was restored."
        )
    with progress_bar("verifying", len(there)) as advance:
        for name, copied in backup.files.items():
            path = folder / name
            if (
                path.is_symlink()
                or not path.is_file()
                or sha256_of(path) != copied.sha256
            ):
                raise DamagedFile(
                    f"{path} is not what was copied. Use another backup; nothing was restored."
                )
            advance(1)


def _check_packages(folder: Path, backup: Backup) -> None:
    for each in backup.packages:
        prefix = f"{HOME}/packages/{each.sha256}/"
        files = {
            name.removeprefix(prefix): copied.sha256
            for name, copied in backup.files.items()
            if name.startswith(prefix)
        }
        if digest_of_files(files) != each.sha256:
            raise DamagedFile(
                f"{folder} lacks the whole package of version {each.version} of {each.model}, which the ledger names."
            )
