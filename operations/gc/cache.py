"""DVC's cache, marked and swept: what a kept run refers to stays.

`dvc gc` would look at the project alone. A folder's list (`….dir`) is deleted before the files
that it lists, and DVC's record of a stage before its outs. So a clean-up that is killed leaves
files that nothing refers to, and never a reference whose files are missing.
"""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from core.errors import OperationError
from operations.gc.ended_runs import kept_commits
from operations.gc.removable import DAY, Grounds, Item, Kind, extent
from operations.run_refs import dvc_records, dvc_records_in, other_tips

# The digest without its first two digits, which name the folder.
_OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")
_KIND = "cache objects"
_HOUR = 3600.0
"""Least age of a deleted object, whatever the policy says.

A stage that runs by hand has written its outs and not yet `dvc.lock`.
"""


def _look(grounds: Grounds) -> list[Item]:
    cache = grounds.home / "cache"
    stage_records = _stage_records(cache)
    objects = dict(_objects(cache))
    days = max(grounds.retention.cache_objects, _HOUR / DAY)
    young_records = [
        path for path in stage_records if grounds.too_young(_changed(path), days)
    ]
    marked = _referenced_objects(grounds, objects, young_records, days)
    items: list[Item] = []
    for path in stage_records:
        # A record whose outs are deleted would have DVC promise files that are missing.
        is_complete = _outs_of(path) <= marked
        items.append(_item(grounds, path, days, is_referenced=is_complete))
    for digest, path in objects.items():
        items.append(_item(grounds, path, days, is_referenced=digest in marked))
    return sorted(items, key=_deletion_order)


def _deletion_order(item: Item) -> tuple[bool, bool]:
    """Sort what refers to files before the files: records of stages, then lists of folders."""
    is_stage_record = item.name.startswith("cache/runs/")
    is_list = item.name.endswith(".dir")
    return not is_stage_record, not is_list


def _referenced_objects(
    grounds: Grounds, objects: dict[str, Path], young_records: list[Path], days: float
) -> set[str]:
    """Give every object that something which stays refers to.

    A list and a stage's record that are young themselves keep what they refer to.
    """
    roots = {
        digest
        for digest, path in objects.items()
        if digest.endswith(".dir") and grounds.too_young(_changed(path), days)
    }
    for path in young_records:
        roots |= _outs_of(path)
    # What git names is kept by name, and young files for the run that is writing them.
    roots |= _recorded_digests(grounds)
    lists = [
        objects[root] for root in roots if root.endswith(".dir") and root in objects
    ]
    return roots.union(*(_listed_digests(path) for path in lists))


def _recorded_digests(grounds: Grounds) -> set[str]:
    """Give the digests in the DVC files of kept runs, of every branch, and of the working tree."""
    root = grounds.project.root
    commits = kept_commits(grounds) | other_tips(root)
    records = dvc_records_in(root) | dvc_records(root, commits)
    digests: set[str] = set()
    for name, text in records.items():
        digests.update(_digests(_parse_yaml(text, name)))
    return digests


def _item(grounds: Grounds, path: Path, days: float, *, is_referenced: bool) -> Item:
    reason: str | None = "a kept run names it"
    if not is_referenced:
        reason = grounds.too_young(_changed(path), days)
    return Item(
        kind=_KIND,
        name=path.relative_to(grounds.home).as_posix(),
        bytes=extent(path).bytes,
        kept=reason,
    )


def _objects(cache: Path) -> Iterator[tuple[str, Path]]:
    objects = cache / "files" / "md5"
    for path in sorted(objects.glob("??/*")):
        if _OBJECT.fullmatch(path.name):
            digest = path.parent.name + path.name
            yield digest, path


def _stage_records(cache: Path) -> list[Path]:
    """Give DVC's run cache: a file for each stage that ran, with its inputs and outs."""
    records = sorted((cache / "runs").glob("??/*/*"))
    return [path for path in records if path.is_file()]


def _outs_of(stage_record: Path) -> set[str]:
    text = stage_record.read_text(encoding="utf-8")
    document = _parse_yaml(text, str(stage_record))
    if not isinstance(document, dict):
        return set()
    return set(_digests(document.get("outs")))


def _listed_digests(path: Path) -> set[str]:
    try:
        return {entry["md5"] for entry in json.loads(path.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OperationError(
            f"{path} is damaged: which files it names is not known. "
            "Nothing was removed: delete it, and run again."
        ) from error


def _parse_yaml(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OperationError(
            f"{name} is not YAML, so what it names is not known. "
            "Nothing was removed: fix or delete it."
        ) from error


def _digests(document: Any) -> Iterator[str]:
    """Give every value under a key `md5`, at any depth."""
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


def _remove(grounds: Grounds, item: Item) -> None:
    path = grounds.home / item.name
    path.unlink(missing_ok=True)
    # DVC fails on an empty folder in its run cache; one that is not empty stays.
    with suppress(OSError):
        path.parent.rmdir()


KINDS = (Kind(_KIND, _look, _remove),)
