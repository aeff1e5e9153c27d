"""DVC's cache, marked and swept: what a kept run names stays. `dvc gc` would look at the checkout alone.

A folder's list (`….dir`) goes before the files that it names, and the memory of a stage before its outs: whoever is killed in between
leaves files that nobody names, never a name whose files are missing.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from core.errors import OperationError
from operations.gc.ended_runs import kept_commits
from operations.gc.removable import DAY, Found, Grounds, Kind, extent
from operations.run_refs import dvc_records, dvc_records_in, other_tips

_OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")
_KIND = "cache objects"
_HOUR = 3600.0
"""A stage that runs by hand has written its outs and not yet `dvc.lock`: whatever the policy says, it has this long."""


def _look(grounds: Grounds) -> list[Found]:
    cache = grounds.home / "cache"
    memories, objects = list(_memories(cache)), dict(_objects(cache))
    days = max(grounds.retention.cache_objects, _HOUR / DAY)
    marked = _marked(
        grounds,
        objects,
        [path for path in memories if grounds.too_young(_changed(path), days)],
        days,
    )
    found = [
        _judged(grounds, path, days, is_named=_named_outs(path) <= marked)
        for path in memories
    ]
    found += [
        _judged(grounds, path, days, is_named=name in marked)
        for name, path in objects.items()
    ]
    return sorted(found, key=_in_order)


def _in_order(found: Found) -> tuple[bool, bool]:
    return not found.name.startswith("cache/runs/"), not found.name.endswith(".dir")


def _marked(
    grounds: Grounds, objects: dict[str, Path], young_memories: list[Path], days: float
) -> set[str]:
    """Every object that something names which stays; a list that is young itself counts for what it names."""
    roots = {
        name
        for name, path in objects.items()
        if name.endswith(".dir") and grounds.too_young(_changed(path), days)
    }
    roots |= {digest for path in young_memories for digest in _named_outs(path)}
    roots |= _recorded(grounds)
    listed = (
        _listed(objects[root])
        for root in roots
        if root.endswith(".dir") and root in objects
    )
    return roots.union(*listed)


def _recorded(grounds: Grounds) -> set[str]:
    """What the records of kept runs, of every branch, and of the working tree name."""
    root = grounds.project.root
    records = dvc_records_in(root) | dvc_records(
        root, kept_commits(grounds) | other_tips(root)
    )
    return {
        digest
        for name, text in records.items()
        for digest in _digests(_parsed(text, name))
    }


def _judged(grounds: Grounds, path: Path, days: float, *, is_named: bool) -> Found:
    kept = (
        "a kept run names it" if is_named else grounds.too_young(_changed(path), days)
    )
    return Found(
        kind=_KIND,
        name=path.relative_to(grounds.home).as_posix(),
        bytes=extent(path).bytes,
        kept=kept,
    )


def _objects(cache: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted((cache / "files" / "md5").glob("??/*")):
        if _OBJECT.fullmatch(path.name):
            yield path.parent.name + path.name, path


def _memories(cache: Path) -> Iterable[Path]:
    """DVC's run cache: for each stage that ran, what went in and what came out."""
    return sorted(path for path in (cache / "runs").glob("??/*/*") if path.is_file())


def _named_outs(memory: Path) -> set[str]:
    document = _parsed(memory.read_text(encoding="utf-8"), str(memory))
    return set(_digests(document.get("outs") if isinstance(document, dict) else None))


def _listed(path: Path) -> set[str]:
    try:
        return {entry["md5"] for entry in json.loads(path.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OperationError(
            f"{path} is damaged: which files it names is not known. Nothing was removed: delete it, and run again."
        ) from error


def _parsed(text: str, what: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OperationError(
            f"{what} is not YAML, so what it names is not known. Nothing was removed: mend or delete it."
        ) from error


def _digests(document: Any) -> Iterator[str]:
    """Every value under a key `md5`, however deep."""
    if isinstance(document, dict):
        for key, inner in document.items():
            if key == "md5" and isinstance(inner, str):
                yield inner
            else:
                yield from _digests(inner)
    elif isinstance(document, list):
        for inner in document:
            yield from _digests(inner)


def _changed(path: Path) -> float:
    return path.stat().st_mtime


def _remove(grounds: Grounds, found: Found) -> None:
    path = grounds.home / found.name
    path.unlink(missing_ok=True)
    with suppress(OSError):  # others lie in it
        path.parent.rmdir()  # DVC stumbles over an empty folder in its memory of runs


KINDS = (Kind(_KIND, _look, _remove),)
