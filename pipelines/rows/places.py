"""Where own rows lie: `data/raw/rows` and `held_out` with any suffix, or as folders."""

import re
from collections.abc import Iterator
from pathlib import Path

from core.errors import UnreadableData

STEMS = ("rows", "held_out")
# What is kept of a suffix, which people give files as they like.
_PLAIN_SUFFIX = re.compile(r"\.[a-z0-9]{1,16}")
# What editors, downloads and people leave beside rows. A `.dvc` file only describes data.
LEFT_BESIDE = frozenset(
    {
        ".dvc",
        ".bak",
        ".backup",
        ".old",
        ".orig",
        ".rej",
        ".save",
        ".swp",
        ".swo",
        ".tmp",
        ".temp",
        ".part",
        ".partial",
        ".crdownload",
        ".download",
        ".lock",
        ".md",
        ".sha256",
        ".md5",
    }
)


def find_candidates(raw: Path, stem: str) -> list[Path]:
    """Return every file and folder of that name, with a suffix or without."""
    # A pipe would be waited for.
    return [
        path
        for path in find_untracked(raw, stem)
        if not _is_left_beside(path) and (path.is_file() or path.is_dir())
    ]


def find_untracked(raw: Path, stem: str) -> list[Path]:
    """Return whatever may hold rows, copies of editors among it: none of it belongs in Git."""
    return sorted(
        path
        for path in raw.glob(f"{stem}*")
        if path.suffix != ".dvc" and path.name.partition(".")[0].rstrip("~") == stem
    )


def find_only(raw: Path, stem: str) -> Path | None:
    """Return the one file or folder of that name; `UnreadableData` where there are two."""
    paths = find_candidates(raw, stem)
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise UnreadableData(f"{raw} holds {names}. Leave one of them.")
    return paths[0] if paths else None


def stored_name(stem: str, source: Path) -> str:
    """Return the name under which a run keeps a file or a folder that was brought."""
    suffix = source.suffix.lower()
    # A file that a person named is rows, whatever its suffix is.
    is_plain = _PLAIN_SUFFIX.fullmatch(suffix) and not _is_left_beside(source)
    if source.is_dir() or not is_plain:
        return stem
    return f"{stem}{suffix}"


def _is_left_beside(path: Path) -> bool:
    # rows.jsonl~
    if path.name.endswith("~"):
        return True
    return path.suffix.lower() in LEFT_BESIDE


def list_files(path: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield a file, or the files of a folder, with their names below `name`."""
    if not path.is_dir():
        yield name, path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield f"{name}/{file.relative_to(path).as_posix()}", file
