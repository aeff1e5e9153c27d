"""Files that nobody else may read, not even for the moment in which they are written."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write UTF-8 text with mode 0600, whole or not at all."""
    # The folder too: names of files can tell something.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # The mode belongs to the creation: a later chmod would leave a moment in which others read.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def secret(path: Path, make: Callable[[], str]) -> str:
    """The text that the file holds; a missing file is created with the text that `make` gives."""
    if not path.is_file():
        text = make()
        write_private(path, text)
    return path.read_text(encoding="utf-8")
