"""Whether a package folder still holds what was released, looked at while its release serves.

A restart would find the damage too late.
"""

import time
from pathlib import Path

from core.errors import AssayError
from registry.ledger.entries import PublicKey, Release
from serving.endpoint.verify import check_package, package_folder
from serving.stamps import Stamps, read_stamps

# A disk that loses a bit leaves the file's times as they are: from time to time every byte is read.
SECONDS_BETWEEN_READINGS = 600.0


class PackageWatch:
    """The package of one release. Its files' sizes and times tell when to read them again."""

    def __init__(
        self, home: Path, release: Release, signer: PublicKey | None = None
    ) -> None:
        # What is wrong with it, as a sentence; empty while it is whole.
        self.fault = ""
        self._release = release
        self._signer = signer
        self._folder = package_folder(home, release)
        self._stamps: Stamps | None = None
        self._read_at = 0.0

    def look(self) -> str:
        """Read the package where it changed, or was not read for long; gives the fault."""
        stamps = read_stamps(self._folder)
        if stamps is None or stamps != self._stamps or self._is_due():
            self.fault = self._find_fault()
            self._stamps = stamps
            self._read_at = time.monotonic()
        return self.fault

    def _is_due(self) -> bool:
        age = time.monotonic() - self._read_at
        return age >= SECONDS_BETWEEN_READINGS

    def _find_fault(self) -> str:
        try:
            check_package(self._folder, self._release, self._signer)
        except AssayError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - what cannot be read is not known to be whole
            kind, text = type(error).__name__, str(error)[:200]
            return f"{self._folder} cannot be read ({kind}: {text})."
        return ""
