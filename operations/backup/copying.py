"""Copies with their digests. Every error names the path at which it happened."""

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

# Bytes that are read at a time, since an artifact may be larger than memory.
_CHUNK = 1 << 20
_PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700
_PERMISSIONS = 0o777
# SQLite waits so long for a writer before it gives up.
_SECONDS_FOR_A_LOCKED_DATABASE = 60


@dataclass(frozen=True)
class Copies:
    """The files that have been copied below a folder so far, by their names.

    A file that is copied a second time replaces its first copy.
    """

    into: Path
    done: Callable[[], None]
    """Called after each file."""
    files: dict[str, CopiedFile] = field(default_factory=dict)

    def file(self, source: Path, name: str) -> None:
        """Copy a file, and record what was read.

        Only the owner can read the copy; the mode of the source is recorded for a restore.
        `OperationError` where it cannot be copied.
        """
        target = self._place(name)
        with explained(target):
            digest, size = copy_bytes(source, target)
            mode = _mode_of(source)
        self._record(name, CopiedFile(sha256=digest, bytes=size, mode=mode))

    def tree(self, source: Path, name: str) -> None:
        """Copy every file below a folder, if there is one.

        A file that a run adds or deletes meanwhile belongs to no verdict yet, so it may be missing.
        `OperationError` where a file that still exists cannot be copied.
        """
        for path in files_below(source):
            copy_name = f"{name}/{path.relative_to(source).as_posix()}"
            try:
                self.file(path, copy_name)
            # Listed a moment ago and deleted since then.
            except OperationError:
                if path.exists():
                    raise
                (self.into / copy_name).unlink(missing_ok=True)

    def database(self, source: Path, name: str) -> None:
        """Copy a SQLite database as it is at one moment, while others write to it.

        `OperationError` where it cannot be copied.
        """
        target = self._place(name)
        target.unlink(missing_ok=True)
        with explained(target):
            _copy_database(source, target)
        self.record_written(name, _mode_of(source))

    def record_written(self, name: str, mode: int = _PRIVATE) -> None:
        """Record a file that something else wrote; `mode` is what it gets when it is restored."""
        path = self.into / name
        with explained(path):
            path.chmod(_PRIVATE)
            size = path.stat().st_size
            copied = CopiedFile(sha256=sha256_of(path), bytes=size, mode=mode)
        self._record(name, copied)

    def forget(self, prefix: str) -> None:
        """Delete what was copied under a prefix, so that it can be copied again."""
        names = [name for name in self.files if name.startswith(prefix)]
        for name in names:
            (self.into / name).unlink()
            del self.files[name]

    def _place(self, name: str) -> Path:
        target = self.into / name
        with explained(target):
            target.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        return target

    def _record(self, name: str, copied: CopiedFile) -> None:
        # After the copy, so that a file that is recorded exists.
        self.files[name] = copied
        self.done()


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which gets its name once it is complete and on the disk.

    What a killed attempt left is deleted first. `OperationError` where something else is in the
    way, or where the folder cannot be written.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    if partial.exists() and not (partial / MARK).exists():
        raise OperationError(
            f"{partial} is in the way, and Assay did not leave it there. Move it."
        )
    shutil.rmtree(partial, ignore_errors=True)
    with explained(partial):
        partial.mkdir(mode=_PRIVATE_FOLDER, parents=True)
        (partial / MARK).touch()
    try:
        yield partial
        # A name that reaches the disk before its files would promise a complete folder.
        os.sync()
        with explained(folder):
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    (folder / MARK).unlink()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk, a bad one, or a file without permission into one `OperationError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _copy_failed(path, str(error)) from error
    except OSError as error:
        raise _copy_failed(error.filename or path, error.strerror) from error


def copy_bytes(source: Path, target: Path) -> tuple[str, int]:
    """Copy a file's bytes into a file that only its owner can read.

    Gives the SHA-256 and the size in bytes of what was read.
    """
    digest = hashlib.sha256()
    size = 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
    # Hashed while it is read: the digest is of the bytes that were copied, and of no later ones.
    with source.open("rb") as original, os.fdopen(descriptor, "wb") as copy:
        while chunk := original.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            copy.write(chunk)
    return digest.hexdigest(), size


def files_below(folder: Path) -> list[Path]:
    """Give every file below a folder, in order.

    `OperationError` at a symbolic link: the file that it leads to is not in the folder.
    """
    if not folder.is_dir():
        return []
    # All are looked at before the first is copied.
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.is_symlink():
            raise OperationError(
                f"{path} is a symbolic link, and a backup follows none. "
                "Put the file itself there."
            )
    return [path for path in paths if path.is_file()]


def _mode_of(path: Path) -> int:
    return path.stat().st_mode & _PERMISSIONS


def _copy_failed(place: object, fact: str | None) -> OperationError:
    return OperationError(
        f"{place} cannot be copied or written ({fact}). "
        "Make room or fix it, and run this again."
    )


def _copy_database(source: Path, target: Path) -> None:
    # Only its owner can read it, from the first byte on.
    creating = os.O_WRONLY | os.O_CREAT
    descriptor = os.open(target, creating, _PRIVATE)
    os.close(descriptor)
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with (
        closing(
            sqlite3.connect(uri, uri=True, timeout=_SECONDS_FOR_A_LOCKED_DATABASE)
        ) as original,
        closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)
        # One file, without a log beside it, so that the digest covers all of it.
        copy.execute("PRAGMA journal_mode=DELETE")
