"""The folder of a package on this machine: whether it is whole, and where a damaged one goes."""

from datetime import UTC, datetime
from pathlib import Path

from core.errors import DamagedFile
from registry.release.package_signature import digest_of_package

ASIDE = ".aside"
_UNIQUE_TIME = "%Y%m%dT%H%M%S%f"


def is_whole(folder: Path, package_sha256: str) -> bool:
    """Whether it holds exactly the package's files; one that cannot be read does not.

    Whether its signature is there and counts is another question.
    """
    try:
        if not folder.is_dir():
            return False
        digest = digest_of_package(folder)
    # A symbolic link, or a file that nobody may read.
    except (DamagedFile, OSError):
        return False
    return digest == package_sha256


def put_aside(folder: Path) -> Path | None:
    """Move a damaged package where a person can look at it and nothing loads it.

    None where there is nothing to move. `DamagedFile` where it cannot be moved.
    """
    # `exists` alone would overlook a link that leads nowhere.
    if not folder.exists() and not folder.is_symlink():
        return None
    moment = datetime.now(UTC)
    aside = folder.parent / ASIDE / f"{folder.name}-{moment:{_UNIQUE_TIME}}"
    aside.parent.mkdir(exist_ok=True)
    try:
        folder.rename(aside)
    except OSError as error:
        raise DamagedFile(
            f"{folder} is damaged and cannot be moved ({error.strerror}). "
            "Move it away by hand, then repeat."
        ) from error
    return aside


def list_set_aside(packages: Path) -> tuple[Path, ...]:
    """The damaged packages that were set aside in that folder, the oldest first of each."""
    # The time ends each name, so that the order of names is the order of time.
    folders = (packages / ASIDE).glob("*-*")
    return tuple(sorted(folders))
