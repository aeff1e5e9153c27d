"""Files that are either whole or absent, and their digests."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from core.errors import DamagedFile


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place.

    fsync, rename, fsync of the folder: after a crash `path` holds the old bytes or the new ones.
    `OSError` names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp closes its files to others; write_private is for those that must stay so.
        temporary.chmod(0o644)
        _fsync(temporary)
        temporary.replace(path)
        # Without this the new name can be lost in a crash, though the bytes are on the disk.
        _fsync(path.parent)
    except OSError as error:
        # The error of a write to a full disk names no file.
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old file or the new one, never half of one."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")

    write_atomically(path, write)


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, whole or not at all."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            # One line at a time: there may be more of them than memory holds.
            for record in records:
                line = json.dumps(record, ensure_ascii=False)
                file.write(f"{line}\n")

    write_atomically(path, write)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file that Assay wrote itself.

    `DamagedFile` at the first line that does not parse.
    """
    # newline: a carriage return inside of a text must not end a line.
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            # Deeply nested JSON ends the parser with a RecursionError.
            except (json.JSONDecodeError, RecursionError) as error:
                place = f"{path} line {number}"
                raise DamagedFile(
                    f"{place} is not JSON. Delete the file and run again."
                ) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """MD5 of a file's bytes: DVC's name for them, and no protection against tampering."""

    def md5() -> "hashlib._Hash":
        return hashlib.md5(usedforsecurity=False)

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, md5).hexdigest()


def digest_of_text(text: str) -> str:
    """SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def digest_of_files(digests: dict[str, str]) -> str:
    """One SHA-256 over a folder's `{relative path: sha256}`, independent of their order."""
    in_order = sorted(digests.items())
    return digest_of_json(dict(in_order))


def digest_of_json(document: Any) -> str:
    """SHA-256 of a JSON document in canonical form: sorted keys, no spaces."""
    text = json.dumps(
        document,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def folder_digests(folder: Path) -> dict[str, str]:
    """`{relative path: sha256}` of every file below `folder`.

    `DamagedFile` where there is a symbolic link: its target could change without the folder.
    """
    digests = {}
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.is_symlink():
            raise DamagedFile(f"{path} is a symbolic link. Put the file itself there.")
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            digests[name] = sha256_of(path)
    return digests


def folder_bytes(folder: Path) -> int:
    """How many bytes the files below `folder` hold together."""
    total = 0
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            total += status.st_size
    return total


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
