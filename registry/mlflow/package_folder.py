"""The folder of a package on this machine: whether it is whole, and where one that is not is put aside."""

from datetime import UTC, datetime
from pathlib import Path

from core.errors import DamagedFile
from core.files import digest_of_files, folder_digests

ASIDE = ".aside"


def is_whole(folder: Path, package_sha256: str) -> bool:
    """Whether it holds exactly the package's files; one that cannot be read does not."""
    try:
        return (
            folder.is_dir()
            and digest_of_files(folder_digests(folder)) == package_sha256
        )
    except (DamagedFile, OSError):  # a symbolic link, or a file that nobody may read
        return False


def put_aside(folder: Path) -> Path | None:
    """Move a damaged package where a person can look at it and nothing loads it; None where there is nothing to move."""
    if not (folder.exists() or folder.is_symlink()):
        return None
    aside = folder.parent / ASIDE / f"{folder.name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    aside.parent.mkdir(exist_ok=True)
    try:
        folder.rename(aside)
    except OSError as error:
        raise DamagedFile(
            f"{folder} is damaged and cannot be moved ({error.strerror}). Move it away by hand, then repeat."
        ) from error
    return aside


def all_aside(packages: Path) -> tuple[Path, ...]:
    """What was put aside of the packages in that folder, the oldest first of each."""
    return tuple(sorted((packages / ASIDE).glob("*-*")))
