"""Whether a folder was touched: cheaper than its digest, and it shows what was put back as well."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

Stamp = tuple[int, int, int, int]
"""Inode, size, and the times of the last change to the content and to the inode."""
Stamps = dict[str, tuple[Stamp, Stamp]]
"""Of each path: of itself, and of the file that it leads to where it is a link."""
# A program that links the files for a backup changes their stamps, too, but only once.
_TRIES = 2
Loaded = TypeVar("Loaded")


def load_unchanged(
    look: Callable[[], tuple[Stamps | None, ...]],
    load: Callable[[], Loaded],
    give_back: Callable[[Loaded], None],
) -> Loaded | None:
    """What `load` gives, of files with the same stamps before and after it.

    None where they change at each try. `give_back` takes what was loaded of files that changed.
    """
    for _ in range(_TRIES):
        before = look()
        loaded = load()
        # What cannot be read is not known to be the same.
        if None not in before and look() == before:
            return loaded
        give_back(loaded)
        # Before the next try: never two copies of all weights at once.
        del loaded
    return None


def read_stamps(folder: Path, names: Iterable[str] | None = None) -> Stamps | None:
    """The stamps of the folder and of these files in it, else of all below it.

    None where they cannot be read.
    """
    stamps: Stamps = {}
    try:
        files = folder.rglob("*")
        if names is not None:
            files = (folder / name for name in names)
        for path in (folder, *files):
            # A link that was put back is another one, and so is its file.
            own = _stamp(path, follows=False)
            target = _stamp(path, follows=True)
            stamps[str(path)] = (own, target)
    except OSError:
        return None
    return stamps


def _stamp(path: Path, *, follows: bool) -> Stamp:
    status = path.stat(follow_symlinks=follows)
    return (
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        # Programs can set the time of a file's content, and the kernel alone this one.
        status.st_ctime_ns,
    )
