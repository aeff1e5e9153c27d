"""Whether a package folder still holds what was released, looked at while it serves: a restart would find it too late."""

import time
from pathlib import Path

from core.errors import AssayError
from registry.ledger.entries import Release
from serving.endpoint.verify import check_bytes, package_folder

SECONDS_BETWEEN_READINGS = 600.0
"""A disk that loses a bit leaves the file's times as they are: now and then every byte is read."""

Stamps = dict[str, tuple[int, int, int, int]]


class PackageWatch:
    """The package of one release. Its files' sizes and times tell when to read them again."""

    def __init__(self, home: Path, release: Release) -> None:
        self.fault = ""
        """What is wrong with it, as a sentence; empty while nothing is."""
        self._release = release
        self._folder = package_folder(home, release)
        self._stamps: Stamps | None = None
        self._read_at = 0.0

    def look(self) -> str:
        """Read the package where something changed, or where it was not read for long; gives the fault."""
        stamps = _stamps(self._folder)
        if (
            stamps is None
            or stamps != self._stamps
            or time.monotonic() - self._read_at >= SECONDS_BETWEEN_READINGS
        ):
            self.fault = self._read()
            self._stamps, self._read_at = stamps, time.monotonic()
        return self.fault

    def _read(self) -> str:
        try:
            check_bytes(self._folder, self._release)
        except AssayError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - what cannot be read is not known to be whole
            return f"{self._folder} cannot be read ({type(error).__name__}: {str(error)[:200]})."
        return ""


def _stamps(folder: Path) -> Stamps | None:
    """None where not even that can be found out. The time of change of an inode is set by the kernel alone."""
    try:
        found = ((path, path.lstat()) for path in (folder, *folder.rglob("*")))
        return {
            str(path): (each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns)
            for path, each in found
        }
    except OSError:
        return None
