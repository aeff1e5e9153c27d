"""The identity of a stage's work: its command, its parameters and the bytes that it depends on."""

from pathlib import Path
from typing import Any

import yaml

from core.files import digest_of_json, folder_digests, sha256_of
from pipelines import layout


def stage_key(stage: str, root: Path = Path()) -> str:
    """SHA-256 under which two runs do the same work, from dvc.yaml and params.yaml below `root`.

    Of two runs with one key, one trains and the other waits. A run that was killed finds its
    checkpoints under its key.
    """
    stages = _read_yaml(root / layout.DVC_STAGES)["stages"]
    entry = stages[stage]
    params = _read_yaml(root / layout.PARAMS)
    # Only the parameters that the stage names: another one changes nothing here.
    work = {
        "cmd": entry["cmd"],
        "params": {
            name: read_setting(params, name) for name in entry.get("params", [])
        },
        "deps": {dep: digest_dependency(root / dep) for dep in entry["deps"]},
    }
    return digest_of_json(work)


def read_setting(document: Any, dotted: str) -> Any:
    """Return the value at a dotted name.

    >>> setting({"lora": {"r": 16}}, "lora.r")
    16
    """
    for part in dotted.split("."):
        document = document[part]
    return document


def digest_dependency(path: Path) -> Any:
    """Return a file's SHA-256, or those of a folder's files by their names."""
    if not path.is_dir():
        return sha256_of(path)
    # Python writes its caches beside a module: they are no part of the work.
    return {
        name: digest
        for name, digest in folder_digests(path).items()
        if "__pycache__" not in name
    }


def _read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
