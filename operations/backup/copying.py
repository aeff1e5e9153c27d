"""Copies with their digests. Whatever goes wrong names the path that it went wrong at."""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import OperationError
from core.files import sha256_of
from operations.backup.manifest import MARK, CopiedFile

_CHUNK = 1 << 20
_PRIVATE = 0o600


@dataclass(frozen=True)
class Copies:
    """What has been copied below a folder so far; each name is copied once, or anew in the place of itself."""

    into: Path
    done: Callable[[], None]
    files: dict[str, CopiedFile] = field(default_factory=dict)

    def file(self, source: Path, name: str) -> None:
        """Copy a file, and record what was read. The copy is its owner's alone; the mode is recorded for the day it is restored."""
        target = self._place(name)
        with explained(target):
            digest, size = copy_bytes(source, target)
            mode = source.stat().st_mode & 0o777
        self._record(name, CopiedFile(sha256=digest, bytes=size, mode=mode))

    def tree(self, source: Path, name: str) -> None:
        """Copy every file below a folder, if there is one; what a run takes away or adds meanwhile belongs to no verdict yet."""
        for path in files_below(source):
            inner = f"{name}/{path.relative_to(source).as_posix()}"
            try:
                self.file(path, inner)
            except OperationError:
                if path.exists():
                    raise
                (self.into / inner).unlink(missing_ok=True)

    def database(self, source: Path, name: str) -> None:
        """Copy a SQLite database as it stands at one moment, while others write to it."""
        target = self._place(name)
        target.unlink(missing_ok=True)
        with explained(target):
            _copy_database(source, target)
        self.made(name, source.stat().st_mode & 0o777)

    def made(self, name: str, mode: int = _PRIVATE) -> None:
        """Record a file that something else wrote, and that gets this mode when it is restored."""
        path = self.into / name
        with explained(path):
            path.chmod(_PRIVATE)
            copied = CopiedFile(
                sha256=sha256_of(path), bytes=path.stat().st_size, mode=mode
            )
        self._record(name, copied)

    def forget(self, prefix: str) -> None:
        """Remove what was copied under a prefix, to copy it anew."""
        for name in [name for name in self.files if name.startswith(prefix)]:
            (self.into / name).unlink()
            del self.files[name]

    def _place(self, name: str) -> Path:
        target = self.into / name
        with explained(target):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return target

    def _record(self, name: str, copied: CopiedFile) -> None:
        self.files[name] = copied
        self.done()


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is whole and on the disk; what a killed attempt left goes first."""
    partial = folder.with_name(f"{folder.name}.partial")
    if partial.exists() and not (partial / MARK).exists():
        raise OperationError(
            f"{partial} is in the way, and Assay did not leave it there. Move it."
        )
    shutil.rmtree(partial, ignore_errors=True)
    with explained(partial):
        partial.mkdir(mode=0o700, parents=True)
        (partial / MARK).touch()
    try:
        yield partial
        os.sync()
        with explained(folder):
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    (folder / MARK).unlink()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """A full disk, a bad one, or a file that may not be read, as one sentence."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        fact = error.strerror if isinstance(error, OSError) else str(error)
        where = (
            error.filename if isinstance(error, OSError) and error.filename else path
        )
        raise OperationError(
            f"{where} cannot be copied or written ({fact}). Make room or mend it, and run this again."
        ) from error


def copy_bytes(source: Path, target: Path) -> tuple[str, int]:
    """Copy a file's bytes into a file that only its owner can read; gives the SHA-256 and the size of what was read."""
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
    with source.open("rb") as read, os.fdopen(descriptor, "wb") as written:
        while chunk := read.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            written.write(chunk)
    return digest.hexdigest(), size


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, in order; a symbolic link is refused, since what it leads to is not in the folder."""
    found = sorted(folder.rglob("*")) if folder.is_dir() else []
    for path in found:
        if path.is_symlink():
            raise OperationError(
                f"{path} is a symbolic link, and a backup follows none. Put the file itself there."
            )
    return [path for path in found if path.is_file()]


def _copy_database(source: Path, target: Path) -> None:
    # Only its owner can read it, from the first byte on.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT, _PRIVATE))
    there = f"{source.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(there, uri=True, timeout=60)) as read,
        closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written)
        # One file, without a log beside it: what is hashed is what there is.
        written.execute("PRAGMA journal_mode=DELETE")
